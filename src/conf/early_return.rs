//! Locations in which `return` answers before the module is asked.
//!
//! `return` runs in the rewrite phase, and tokens are judged in the access phase. An operator who
//! writes both in a location may believe that what it returns is protected. nginx has compiled the
//! directives of ngx_http_rewrite_module to structures, one behind the other. Each begins with the
//! address of its function of the script engine, by which it is recognised here.

use nginx_sys::{
    ngx_array_t, ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t,
    ngx_http_script_if_code, ngx_http_script_if_code_t, ngx_http_script_return_code,
    ngx_http_script_return_code_t,
};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use super::module_index;

/// The name of the location whose configuration is being merged, if it has a `return` that looks
/// protected and is not.
pub fn location_that_returns(cf: &ngx_conf_t) -> Option<String> {
    let core: &ngx_http_core_loc_conf_t = NgxHttpCoreModule::location_conf(cf)?;
    // `if` and `limit_except` have no code of their own. What leads to a location with a `@`, or to
    // one that is internal, was judged where it came from.
    if core.noname() != 0 || core.named() != 0 || core.internal != 0 {
        return None;
    }
    let is_server = core.name.len == 0;
    let answers = |it: Return| match is_server || it.is_conditional {
        // A redirect of a whole server and an answer to OPTIONS do not look protected.
        true => (200..300).contains(&it.status) && it.has_text,
        false => it.status < 400,
    };
    let name = || String::from_utf8_lossy(core.name.as_bytes()).into_owned();
    returns(code(cf)?).into_iter().any(answers).then(name)
}

/// The code of the location, in words of the size of a pointer.
fn code(cf: &ngx_conf_t) -> Option<&'static [usize]> {
    let index = module_index(cf, c"ngx_http_rewrite_module")?;
    // SAFETY: while locations are merged, this is the context of one. The module's configuration
    // begins with a pointer to its code.
    let code: *const ngx_array_t = unsafe {
        let context = &*cf.ctx.cast::<ngx_http_conf_ctx_t>();
        (*context.loc_conf.add(index)).cast::<*const ngx_array_t>().as_ref().copied()?
    };
    // SAFETY: null, or an array of bytes that lives as long as the configuration.
    let code = unsafe { code.as_ref()? };
    if code.size != 1 || code.elts.is_null() {
        return None;
    }
    // SAFETY: the code consists of structures that have the size of some pointers.
    Some(unsafe { std::slice::from_raw_parts(code.elts.cast(), code.nelts / size_of::<usize>()) })
}

struct Return {
    status: usize,
    has_text: bool,
    is_conditional: bool,
}

fn returns(code: &[usize]) -> Vec<Return> {
    let mut returns = Vec::new();
    let mut conditional_until = 0;
    for (at, word) in code.iter().enumerate() {
        if *word == ngx_http_script_if_code as *const () as usize {
            let condition: Option<&ngx_http_script_if_code_t> = structure(&code[at..]);
            let end = condition.map_or(0, |it| at + it.next / size_of::<usize>());
            conditional_until = conditional_until.max(end);
        } else if *word == ngx_http_script_return_code as *const () as usize {
            let found: Option<&ngx_http_script_return_code_t> = structure(&code[at..]);
            returns.extend(found.map(|it| Return {
                status: it.status,
                has_text: it.text.value.len > 0 || !it.text.lengths.is_null(),
                is_conditional: at < conditional_until,
            }));
        }
    }
    returns
}

/// The structure that begins with these words, one of those that hold words alone.
fn structure<T>(words: &[usize]) -> Option<&T> {
    let fits = size_of_val(words) >= size_of::<T>() && align_of::<T>() <= align_of::<usize>();
    // SAFETY: the words are there and aligned, and any of them are valid for such a structure.
    fits.then(|| unsafe { &*words.as_ptr().cast::<T>() })
}
