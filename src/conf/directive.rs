//! A directive as it stands in the configuration: its arguments, and the values in them.

use std::ffi::{c_char, c_void};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keystone_token::secret::Secret;
use nginx_sys::{
    ngx_conf_full_name, ngx_conf_t, ngx_http_compile_complex_value,
    ngx_http_compile_complex_value_t, ngx_http_complex_value_t, ngx_parse_size, ngx_parse_time,
    ngx_str_t, NGX_ERROR, NGX_LOG_EMERG, NGX_OK,
};
use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use crate::request::PhaseHandler;

/// Why a directive cannot be used; nginx adds the file and the line.
pub type Refused = String;

/// One occurrence of a directive.
pub struct Directive<'a> {
    cf: &'a mut ngx_conf_t,
    arguments: Vec<&'a str>,
}

/// Runs `set` on the directive that nginx has just read, and reports what it refuses.
///
/// # Safety
/// `cf` is the pointer that nginx hands to a directive's handler, and `conf` points to the module's
/// configuration of type `C`.
pub unsafe fn read<C>(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    set: fn(&mut Directive<'_>, &mut C) -> Result<(), Refused>,
) -> *mut c_char {
    // SAFETY: by this function's contract both are valid, and nothing else uses them meanwhile.
    let (cf, conf) = unsafe { (&mut *cf, &mut *conf.cast::<C>()) };
    // SAFETY: nginx keeps a directive's words as an array of strings that lives as long as `cf`.
    let words: &[ngx_str_t] = unsafe { (*cf.args).as_slice() };
    // SAFETY: the words' bytes lie in the configuration's pool, which outlives the call.
    let words = words.iter().map(|word| unsafe { bytes(word) });

    let words: Result<Vec<&str>, _> = words.map(std::str::from_utf8).collect();
    let refused = match words {
        Err(_) => "the directive is not valid UTF-8".to_owned(),
        Ok(words) => {
            let (name, arguments) = match words.split_first() {
                Some((name, arguments)) => (*name, arguments.to_vec()),
                None => return NGX_CONF_ERROR,
            };
            let mut directive = Directive { cf: &mut *cf, arguments };
            match set(&mut directive, conf) {
                Ok(()) => return NGX_CONF_OK,
                Err(reason) => format!("\"{name}\" {reason}"),
            }
        }
    };
    report(cf, NGX_LOG_EMERG, &refused);
    NGX_CONF_ERROR
}

/// Writes `message` to the configuration's log, with the file and line that is being read.
pub fn report(cf: &mut ngx_conf_t, level: u32, message: &str) {
    ngx::ngx_conf_log_error!(level, cf, "{}", message);
}

/// Fills `slot`, unless an earlier line of the same level has.
pub fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Refused> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err("directive is duplicate".to_owned()),
    }
}

impl<'a> Directive<'a> {
    /// The words behind the name.
    pub fn arguments(&self) -> &[&'a str] {
        &self.arguments
    }

    /// The first word behind the name (nginx has counted them).
    pub fn argument(&self) -> &'a str {
        self.arguments.first().copied().unwrap_or_default()
    }

    /// The file and line that is being read.
    pub fn place(&self) -> Place {
        // SAFETY: while a file is read, `conf_file` points to its description.
        let Some(file) = (unsafe { self.cf.conf_file.as_ref() }) else {
            return Place::default();
        };
        // SAFETY: the name lies in the configuration's pool.
        let name = unsafe { bytes(&file.file.name) };
        Place { file: String::from_utf8_lossy(name).into_owned(), line: file.line }
    }

    /// The refusal of a value, with the reason.
    pub fn invalid(&self, value: &str, reason: impl std::fmt::Display) -> Refused {
        format!("has an invalid value \"{value}\": {reason}")
    }

    /// `on` or `off`.
    pub fn flag(&self) -> Result<bool, Refused> {
        match self.argument() {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(self.invalid(other, "it must be \"on\" or \"off\"")),
        }
    }

    /// A time in nginx's units, of whole milliseconds.
    pub fn time(&self) -> Result<Duration, Refused> {
        let mut text = self.nginx_string(self.argument());
        // SAFETY: `text` points to valid bytes.
        let milliseconds = unsafe { ngx_parse_time(&mut text, 0) };
        u64::try_from(milliseconds)
            .map(Duration::from_millis)
            .map_err(|_| self.invalid(self.argument(), "it must be a time, such as 30s or 5m"))
    }

    /// A time that must not be zero.
    pub fn positive_time(&self) -> Result<Duration, Refused> {
        match self.time()? {
            Duration::ZERO => Err(self.invalid(self.argument(), "it must be longer than 0")),
            time => Ok(time),
        }
    }

    /// A time, or `None` for `off`.
    pub fn time_or_off(&self) -> Result<Option<Duration>, Refused> {
        match self.argument() {
            "off" => Ok(None),
            _ => self.positive_time().map(Some),
        }
    }

    /// A size in bytes, in nginx's units.
    pub fn size(&self, value: &str) -> Result<usize, Refused> {
        let mut text = self.nginx_string(value);
        // SAFETY: `text` points to valid bytes.
        let size = unsafe { ngx_parse_size(&mut text) };
        usize::try_from(size)
            .map_err(|_| self.invalid(value, "it must be a size, such as 64k or 10m"))
    }

    /// A number that is at least `least`.
    pub fn number<T>(&self, least: T) -> Result<T, Refused>
    where
        T: std::str::FromStr + PartialOrd + std::fmt::Display,
    {
        match self.argument().parse() {
            Ok(number) if number >= least => Ok(number),
            _ => {
                let reason = format!("it must be a whole number, at least {least}");
                Err(self.invalid(self.argument(), reason))
            }
        }
    }

    /// A word that is not empty and can stand in a header or a log line.
    pub fn word(&self) -> Result<String, Refused> {
        self.one_word(self.argument())
    }

    /// All words, each as for [`Directive::word`].
    pub fn words(&self) -> Result<Vec<String>, Refused> {
        self.arguments.iter().map(|word| self.one_word(word)).collect()
    }

    /// All words, of which some may be empty.
    pub fn words_or_empty(&self) -> Result<Vec<String>, Refused> {
        let word = |word: &&str| match *word {
            "" => Ok(String::new()),
            word => self.one_word(word),
        };
        self.arguments.iter().map(word).collect()
    }

    fn one_word(&self, word: &str) -> Result<String, Refused> {
        match word {
            "" => Err("has an empty value".to_owned()),
            word if word.chars().any(char::is_control) => {
                Err("has a control character in its value".to_owned())
            }
            word => Ok(word.to_owned()),
        }
    }

    /// A secret, in place or as `file:PATH`.  Nothing of it is in the refusal.
    pub fn secret(&mut self) -> Result<Secret, Refused> {
        let argument = self.argument();
        let text = match argument.strip_prefix("file:") {
            None => argument.to_owned(),
            Some(path) => {
                let path = self.full_path(path)?;
                let mut text = std::fs::read_to_string(&path)
                    .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                if text.ends_with('\n') {
                    text.pop();
                }
                text
            }
        };
        match text.chars().any(char::is_control) {
            _ if text.is_empty() => Err("has an empty secret".to_owned()),
            true => Err("has a control character in its secret".to_owned()),
            false => Ok(Secret::new(text)),
        }
    }

    /// A path; a relative one starts at the directory of nginx.conf.
    pub fn path(&mut self) -> Result<PathBuf, Refused> {
        let path = self.word()?;
        self.full_path(&path)
    }

    /// All words as paths.
    pub fn paths(&mut self) -> Result<Vec<PathBuf>, Refused> {
        self.words()?.iter().map(|path| self.full_path(path)).collect()
    }

    /// A path of a file that can be read now.
    pub fn readable_file(&mut self) -> Result<PathBuf, Refused> {
        let path = self.path()?;
        match std::fs::File::open(&path) {
            Ok(_) => Ok(path),
            Err(error) => Err(format!("cannot open {}: {error}", path.display())),
        }
    }

    fn full_path(&mut self, path: &str) -> Result<PathBuf, Refused> {
        full_path(self.cf, path, true).ok_or_else(|| "has no memory for a path".to_owned())
    }

    /// A value that may hold variables.
    pub fn complex_value(&mut self, text: &str) -> Result<ngx_http_complex_value_t, Refused> {
        self.compile(text, |_| ())
    }

    /// A path that may hold variables, for [`Request::evaluate_path`]; one that begins with neither
    /// a slash nor a variable starts at the directory of nginx.conf.
    ///
    /// [`Request::evaluate_path`]: crate::request::Request::evaluate_path
    pub fn path_with_variables(&mut self) -> Result<ngx_http_complex_value_t, Refused> {
        self.word()?;
        self.compile(self.argument(), |compile| {
            compile.set_zero(1);
            compile.set_conf_prefix(1);
        })
    }

    fn compile(
        &mut self,
        text: &str,
        prepare: impl FnOnce(&mut ngx_http_compile_complex_value_t),
    ) -> Result<ngx_http_complex_value_t, Refused> {
        let mut text = pool_string(self.cf, text).ok_or("has no memory for a value")?;
        // SAFETY: all-zero is the documented start of both.
        let mut value: ngx_http_complex_value_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        let mut compile: ngx_http_compile_complex_value_t = unsafe { std::mem::zeroed() };
        compile.cf = self.cf;
        compile.value = &mut text;
        compile.complex_value = &mut value;
        prepare(&mut compile);
        // SAFETY: all three pointers are valid for the call; what `value` keeps lies in the pool.
        match unsafe { ngx_http_compile_complex_value(&mut compile) } {
            rc if rc == NGX_OK as isize => Ok(value),
            _ => Err(self.invalid(self.argument(), "it is not a valid value")),
        }
    }

    /// Lets this handler make the answers of the location.
    pub fn answer_with(&mut self, handler: PhaseHandler) -> Result<(), Refused> {
        let core = NgxHttpCoreModule::location_conf_mut(self.cf).ok_or("has no location")?;
        core.handler = Some(handler);
        Ok(())
    }

    fn nginx_string(&self, text: &'a str) -> ngx_str_t {
        ngx_str_t { len: text.len(), data: text.as_ptr().cast_mut() }
    }
}

/// Where a directive stands.
#[derive(Clone, Debug, Default)]
pub struct Place {
    file: String,
    line: usize,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
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

/// The bytes of an nginx string.
///
/// # Safety
/// The string is valid, and its bytes stay where they are for `'s`.
pub unsafe fn bytes<'s>(text: &ngx_str_t) -> &'s [u8] {
    match text.len {
        0 => &[],
        // SAFETY: by this function's contract.
        len => unsafe { std::slice::from_raw_parts(text.data, len) },
    }
}
