//! A directive as nginx has read it, for `keystone-conf`, and nginx's strings and paths.

use std::ffi::c_char;
use std::path::{Path, PathBuf};

use keystone_conf::{ConfError, Directive, Host, Line, Position, ValueKind};
use nginx_sys::{
    ngx_conf_full_name, ngx_conf_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value_t, ngx_str_t, NGX_ERROR,
    NGX_LOG_EMERG, NGX_OK,
};
use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use crate::string::bytes;

/// A value that may hold variables.
pub type Value = ngx_http_complex_value_t;

/// Runs `set` on the directive that nginx has just read, and reports what it refuses.
pub fn read(
    cf: &mut ngx_conf_t,
    set: impl FnOnce(&Directive<Value>, &mut Line<'_, Value>) -> Result<(), ConfError>,
) -> *mut c_char {
    // SAFETY: nginx keeps a directive's words as an array of strings that lives as long as `cf`.
    let words: &[ngx_str_t] = unsafe { (*cf.args).as_slice() };
    // SAFETY: the words' bytes lie in the configuration's pool, which outlives the call.
    let words = words.iter().map(|word| unsafe { bytes(word) });

    let words: Result<Vec<&str>, _> = words.map(std::str::from_utf8).collect();
    let refused = match words.as_deref() {
        Err(_) => "the directive is not valid UTF-8".to_owned(),
        Ok([]) => return NGX_CONF_ERROR,
        Ok([name, arguments @ ..]) => match read_words(cf, name, arguments, set) {
            Ok(()) => return NGX_CONF_OK,
            Err(error) => error.to_string(),
        },
    };
    report(cf, NGX_LOG_EMERG, &refused);
    NGX_CONF_ERROR
}

fn read_words(
    cf: &mut ngx_conf_t,
    name: &str,
    arguments: &[&str],
    set: impl FnOnce(&Directive<Value>, &mut Line<'_, Value>) -> Result<(), ConfError>,
) -> Result<(), ConfError> {
    let unknown = || ConfError::Unknown { directive: name.to_owned() };
    let directive = Directive::find(name).ok_or_else(unknown)?;
    let mut host = Nginx { cf: &mut *cf };
    set(directive, &mut directive.line(&mut host, name, arguments)?)?;
    if directive.name == c"keystone_status" {
        let core = NgxHttpCoreModule::location_conf_mut(cf);
        let core = core.ok_or_else(|| ConfError::Context { directive: name.to_owned() })?;
        core.handler = Some(crate::show_status);
    }
    Ok(())
}

/// nginx while it reads its configuration.
struct Nginx<'a> {
    cf: &'a mut ngx_conf_t,
}

impl Host for Nginx<'_> {
    type Value = Value;

    fn position(&self) -> Position {
        position(self.cf)
    }

    fn full_path(&mut self, path: &str) -> Option<PathBuf> {
        full_path(self.cf, path, true)
    }

    fn compile(&mut self, text: &str, kind: ValueKind) -> Option<Value> {
        compile(self.cf, text, kind)
    }
}

/// The line that nginx has read last.
pub fn position(cf: &ngx_conf_t) -> Position {
    // SAFETY: while a file is read, `conf_file` points to its description.
    let Some(file) = (unsafe { cf.conf_file.as_ref() }) else {
        return Position::default();
    };
    // SAFETY: the name lies in the configuration's pool.
    let name = unsafe { bytes(&file.file.name) };
    Position { file: String::from_utf8_lossy(name).into_owned().into(), line: file.line }
}

/// Makes a text with variables ready to be evaluated; `None` where nginx cannot.
pub fn compile(cf: &mut ngx_conf_t, text: &str, kind: ValueKind) -> Option<Value> {
    let mut text = pool_string(cf, text)?;
    // SAFETY: all-zero is the documented start of both.
    let mut value: Value = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let mut compile: ngx_http_compile_complex_value_t = unsafe { std::mem::zeroed() };
    compile.cf = cf;
    compile.value = &mut text;
    compile.complex_value = &mut value;
    if kind == ValueKind::Path {
        // For `Request::evaluate_path`.
        compile.set_zero(1);
        compile.set_conf_prefix(1);
    }
    // SAFETY: all three pointers are valid for the call; what `value` keeps lies in the pool.
    let rc = unsafe { ngx_http_compile_complex_value(&mut compile) };
    (rc == NGX_OK as isize).then_some(value)
}

/// Writes `message` to the configuration's log, with the file and line that is being read.
pub fn report(cf: &mut ngx_conf_t, level: u32, message: &str) {
    ngx::ngx_conf_log_error!(level, cf, "{}", message);
}

/// `path` behind nginx's prefix: the one of the configuration, or the one for data.
pub fn full_path(cf: &mut ngx_conf_t, path: &str, conf_prefix: bool) -> Option<PathBuf> {
    let mut text = pool_string(cf, path)?;
    // SAFETY: `text` is a null-terminated string in the pool, which the function may replace.
    let rc = unsafe { ngx_conf_full_name(cf.cycle, &mut text, conf_prefix.into()) };
    if rc == NGX_ERROR as isize {
        return None;
    }
    // SAFETY: the new text lies in the pool as well.
    let path = std::str::from_utf8(unsafe { bytes(&text) }).ok()?;
    Some(Path::new(path).to_owned())
}

/// A copy of `text` in the configuration's pool, null-terminated.
pub fn pool_string(cf: &mut ngx_conf_t, text: &str) -> Option<ngx_str_t> {
    // SAFETY: `cf.pool` is valid while the configuration is read.
    let pool = unsafe { ngx::core::Pool::from_ngx_pool(cf.pool) };
    let data: *mut u8 = pool.alloc_unaligned(text.len() + 1).cast();
    if data.is_null() {
        return None;
    }
    // SAFETY: there are `len + 1` bytes at `data`, fresh ones.
    unsafe {
        data.copy_from_nonoverlapping(text.as_ptr(), text.len());
        data.add(text.len()).write(0);
    }
    Some(ngx_str_t { len: text.len(), data })
}
