//! `Destination`: where `COPY` and `MOVE` of ngx_http_dav_module write.
//!
//! nginx serves these methods in the location of the request, and writes to the path in the header
//! without asking an access module about it. So it must be a path whose requests would be judged as
//! this one is: one for which nginx finds the same location. nginx has no function that tells; the
//! search here is as `ngx_http_core_find_location()`, and gives up where regular expressions take
//! part.

use std::cmp::Ordering;

use keystone_token::access_rules::decode_plain;
use nginx_sys::{ngx_http_core_loc_conf_t, ngx_http_location_tree_node_t};
use ngx::http::{HttpModule, HttpModuleLocationConf, HttpModuleServerConf, NgxHttpCoreModule};

use crate::conf::location::LocationConf;
use crate::request::Request;
use crate::HttpKeystoneModule;

/// Whether nginx itself would write to a path that is not known to belong to this location.
pub fn leads_elsewhere(request: &Request, location: &LocationConf) -> bool {
    if !request.is_copy_or_move() || request.has_content_handler() {
        return false;
    }
    let mut values = request.headers().filter(|(name, _)| is_destination(name));
    let Some((_, value)) = values.next() else {
        // nginx refuses the request.
        return false;
    };
    let path = path(value).filter(|_| values.next().is_none()).and_then(decode_plain);
    let found = path.and_then(|path| find(request, &path));
    !found.is_some_and(|found| std::ptr::eq(found, location))
}

fn is_destination(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Destination")
}

/// The path as it is written in a URI or in its place, without the query.
fn path(value: &[u8]) -> Option<&[u8]> {
    let rest = [&b"http://"[..], b"https://"].iter().find_map(|scheme| value.strip_prefix(*scheme));
    let path = match rest {
        Some(rest) => &rest[rest.iter().position(|byte| *byte == b'/')?..],
        None => value,
    };
    path.split(|byte| *byte == b'?').next()
}

/// What applies to a request with this method for this path; `None` if that cannot be told.
fn find(request: &Request, path: &[u8]) -> Option<&'static LocationConf> {
    let server = NgxHttpCoreModule::server_conf(request.get())?;
    // SAFETY: nginx keeps the context of a server, which lives as long as the configuration.
    let outer: &ngx_http_core_loc_conf_t =
        NgxHttpCoreModule::location_conf(unsafe { &*server.ctx })?;
    let core = find_location(outer, path)?;
    let is_limited = request.get().method & core.limit_except as usize != 0;
    let conf = if is_limited { core.limit_except_loc_conf } else { core.loc_conf };
    if conf.is_null() {
        return None;
    }
    // SAFETY: nginx keeps a configuration for each http module at its index.
    unsafe { (*conf.add(HttpKeystoneModule::module().ctx_index)).cast::<LocationConf>().as_ref() }
}

fn find_location(
    outer: &'static ngx_http_core_loc_conf_t,
    path: &[u8],
) -> Option<&'static ngx_http_core_loc_conf_t> {
    let mut level = outer;
    loop {
        // SAFETY: null, or the tree of the locations in this one.
        let found = find_static(unsafe { level.static_locations.as_ref() }, path)?;
        match found {
            Found::Exact(location) => return Some(location),
            Found::Prefix(location) if location.noregex() != 0 || !has_regex(level) => {
                level = location;
            }
            Found::Nothing if !has_regex(level) => return Some(level),
            Found::Prefix(_) | Found::Nothing => return None,
        }
    }
}

#[cfg(ngx_feature = "pcre")]
fn has_regex(level: &ngx_http_core_loc_conf_t) -> bool {
    !level.regex_locations.is_null()
}

#[cfg(not(ngx_feature = "pcre"))]
fn has_regex(_: &ngx_http_core_loc_conf_t) -> bool {
    false
}

/// A location that a path belongs to by its beginning.
enum Found {
    Exact(&'static ngx_http_core_loc_conf_t),
    Nothing,
    Prefix(&'static ngx_http_core_loc_conf_t),
}

/// As `ngx_http_core_find_static_location()`; `None` for a path that nginx would redirect to the one
/// with a slash.
fn find_static(
    mut node: Option<&'static ngx_http_location_tree_node_t>,
    path: &[u8],
) -> Option<Found> {
    let (mut found, mut rest) = (Found::Nothing, path);
    while let Some(here) = node {
        // SAFETY: a node has its name behind it, of this length.
        let name = unsafe { std::slice::from_raw_parts(here.name.as_ptr(), usize::from(here.len)) };
        // SAFETY: each is null or lives as long as the configuration.
        let (left, right, tree, exact, inclusive) = unsafe {
            (
                here.left.as_ref(),
                here.right.as_ref(),
                here.tree.as_ref(),
                here.exact.as_ref(),
                here.inclusive.as_ref(),
            )
        };
        let common = rest.len().min(name.len());
        node = match rest[..common].cmp(&name[..common]) {
            Ordering::Less => left,
            Ordering::Greater => right,
            Ordering::Equal if rest.len() > name.len() => match inclusive {
                Some(location) => {
                    (found, rest) = (Found::Prefix(location), &rest[common..]);
                    tree
                }
                None => right,
            },
            Ordering::Equal if rest.len() == name.len() => {
                let prefix = || inclusive.map(Found::Prefix);
                return exact.map(Found::Exact).or_else(prefix);
            }
            Ordering::Equal if rest.len() + 1 == name.len() && here.auto_redirect != 0 => {
                return None
            }
            Ordering::Equal => left,
        };
    }
    Some(found)
}
