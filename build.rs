//! Hands the facts that nginx-sys found out about nginx on to the compiler.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (variable, cfg) in [("DEP_NGINX_FEATURES", "ngx_feature"), ("DEP_NGINX_OS", "ngx_os")] {
        let check = format!("{variable}_CHECK");
        println!("cargo::rerun-if-env-changed={variable}");
        println!("cargo::rerun-if-env-changed={check}");
        let known = std::env::var(check).unwrap_or_else(|_| "any()".to_owned());
        println!("cargo::rustc-check-cfg=cfg({cfg}, values({known}))");
        let found = std::env::var(variable).unwrap_or_default();
        for value in found.split(',').map(str::trim).filter(|value| !value.is_empty()) {
            println!("cargo::rustc-cfg={cfg}=\"{value}\"");
        }
    }

    // Since 1.23.0, headers of one name are chained.
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    println!("cargo::rustc-check-cfg=cfg(nginx1_23_0)");
    let version = std::env::var("DEP_NGINX_VERSION_NUMBER").unwrap_or_default();
    if version.parse().is_ok_and(|version: u64| version >= 1_023_000) {
        println!("cargo::rustc-cfg=nginx1_23_0");
    }
}
