//! A thin layer over `ngx_http_request_t`: what the rest of the module needs of a request, safe to
//! call.
//!
//! nginx enters a module with requests that it has set up in part only, and this is the one place
//! that knows what may be unset:
//!
//! - `connection`, `pool`, `ctx`, the configurations, `variables` and `headers_out.headers` are set
//!   before anything of the request is read (`ngx_http_alloc_request()`).
//! - `headers_in.headers` is all zero until a request line of HTTP/1.x, or the pseudo-headers of
//!   HTTP/2 and HTTP/3, were accepted. A request of HTTP/0.9, and one that was refused and that
//!   `error_page` redirects into a location, come without it: see [`Request::header_list`].
//! - What points to one header (`headers_in.referer`, `headers_in.authorization`) is null where the
//!   request has none.
//! - Strings (`uri`, `method_name`, `unparsed_uri`, `headers_in.user`) may be empty with a null
//!   pointer: `ngx_str_t::as_bytes` takes that for no bytes.

use std::ptr::NonNull;

use nginx_sys::{
    ngx_buf_t, ngx_chain_t, ngx_connection_t, ngx_hash_key, ngx_http_complex_value,
    ngx_http_complex_value_t, ngx_http_core_loc_conf_t, ngx_http_discard_request_body,
    ngx_http_get_variable, ngx_http_map_uri_to_path, ngx_http_output_filter, ngx_http_request_t,
    ngx_http_send_header, ngx_list_t, ngx_log_t, ngx_str_t, NGX_ERROR, NGX_HTTP_COPY,
    NGX_HTTP_DELETE, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_MOVE, NGX_HTTP_OK,
    NGX_HTTP_SATISFY_ANY, NGX_OK,
};
use ngx::core::Pool;
use ngx::http::{HttpModuleLocationConf, NgxHttpCoreModule};

use crate::client_address::ClientAddress;
use crate::header_variables::HeaderVariables;
use crate::log::AsLog;
use crate::string::{bytes, static_string};

mod content;
mod flags;
mod list;
mod phases;

pub use list::{element_pointers, elements, make_list};
pub use phases::PhaseHandler;

/// A request that nginx processes.
///
/// All copies refer to the same request. None may outlive it; the module's context of the request
/// may keep one, because nginx destroys it with the request. What a method returns for a lifetime of
/// its caller's choice (`'r`) lies in the memory of the request: it lives as long as the request, and
/// not only as long as the value that was asked for it.
#[derive(Clone, Copy)]
pub struct Request(NonNull<ngx_http_request_t>);

impl AsLog for Request {
    fn as_log(&self) -> *mut ngx_log_t {
        // SAFETY: a request has a connection, and a connection a log.
        unsafe { (*self.connection()).log }
    }
}

impl Request {
    /// # Safety
    /// `r` is the request that nginx hands to a handler. The value, its copies, and what their
    /// methods return are used only until the request ends.
    pub unsafe fn new(r: *mut ngx_http_request_t) -> Option<Self> {
        NonNull::new(r).map(Self)
    }

    /// The pointer to nginx's structure.
    pub fn as_ptr(&self) -> *mut ngx_http_request_t {
        self.0.as_ptr()
    }

    /// nginx's structure, to read it.
    pub(crate) fn get(&self) -> &ngx_http_request_t {
        // SAFETY: by the contract of `new`; nothing else runs while the reference is used.
        unsafe { self.0.as_ref() }
    }

    fn connection(&self) -> *mut ngx_connection_t {
        self.get().connection
    }

    /// Whether one access module that allows the request is enough here (`satisfy any`), and no
    /// other one has refused it.
    pub fn is_granted_by_any(&self) -> bool {
        let satisfies_any =
            |core: &ngx_http_core_loc_conf_t| core.satisfy == NGX_HTTP_SATISFY_ANY as usize;
        self.core_location().is_some_and(satisfies_any) && self.get().access_code == 0
    }

    /// Where the client's connection comes from, as nginx knows it now: realip may have replaced
    /// the address of the peer.
    pub fn client_address(&self) -> ClientAddress {
        // SAFETY: a request has a connection, whose address is null or as long as nginx says.
        unsafe {
            let connection = &*self.connection();
            ClientAddress::from_sockaddr(connection.sockaddr, connection.socklen)
        }
    }

    /// Whether this is not a subrequest.
    pub fn is_main(&self) -> bool {
        self.get().main == self.as_ptr()
    }

    /// The request's memory.
    pub fn pool(&self) -> Pool {
        // SAFETY: a request has a pool for as long as it lives.
        unsafe { Pool::from_ngx_pool(self.get().pool) }
    }

    /// The method, as in the request line.
    pub fn method(&self) -> &str {
        self.get().method_name.to_str().unwrap_or_default()
    }

    /// Whether the method is `COPY` or `MOVE`.
    pub fn is_copy_or_move(&self) -> bool {
        self.get().method & (NGX_HTTP_COPY | NGX_HTTP_MOVE) as usize != 0
    }

    /// Whether the method is `DELETE`.
    pub fn is_delete(&self) -> bool {
        self.get().method == NGX_HTTP_DELETE as usize
    }

    /// The path, decoded and normalised, as rewrites and redirects have left it.
    pub fn path(&self) -> &[u8] {
        self.get().uri.as_bytes()
    }

    /// The path as the client sent it, without the query. `None` after a rewrite, when `proxy_pass`
    /// does not send it.
    pub fn raw_path(&self) -> Option<&[u8]> {
        self.raw_path_and_query().map(|(path, _)| path)
    }

    /// The query as the client sent it, where `proxy_pass` sends it; nginx ends its own at a `#`.
    pub fn raw_query(&self) -> &[u8] {
        self.raw_path_and_query().map(|(_, query)| query).unwrap_or_default()
    }

    fn raw_path_and_query(&self) -> Option<(&[u8], &[u8])> {
        if self.get().valid_unparsed_uri() == 0 {
            return None;
        }
        let uri = self.get().unparsed_uri.as_bytes();
        let path = uri.split(|byte| *byte == b'?').next()?;
        Some((path, uri.get(path.len() + 1..).unwrap_or_default()))
    }

    /// The query, as rewrites and redirects have left it.
    pub fn arguments<'r>(&self) -> &'r [u8] {
        // SAFETY: the bytes live as long as the request.
        unsafe { bytes(&self.get().args) }
    }

    /// The URI as the client sent it, with the query.
    pub fn unparsed_uri<'r>(&self) -> &'r [u8] {
        // SAFETY: as above.
        unsafe { bytes(&self.get().unparsed_uri) }
    }

    /// The request line, for logs.
    pub fn request_line<'r>(&self) -> &'r [u8] {
        // SAFETY: as above.
        unsafe { bytes(&self.get().request_line) }
    }

    /// Puts another one, which lies in the request's pool, in its place.
    pub fn set_request_line(&self, line: ngx_str_t) {
        // SAFETY: the request is alive. nginx has parsed the line, and only shows it.
        unsafe { (*self.as_ptr()).request_line = line };
    }

    /// Puts another query, which lies in the request's pool, in the place of the one that nginx has.
    pub fn set_arguments(&self, arguments: ngx_str_t) {
        // SAFETY: the request is alive, and nothing else uses its query meanwhile.
        unsafe { (*self.as_ptr()).args = arguments };
    }

    /// The same for the URI as the client sent it.
    pub fn set_unparsed_uri(&self, uri: ngx_str_t) {
        // SAFETY: as above.
        unsafe { (*self.as_ptr()).unparsed_uri = uri };
    }

    /// nginx's own configuration of the location that the request is in now.
    pub fn core_location(&self) -> Option<&'static ngx_http_core_loc_conf_t> {
        NgxHttpCoreModule::location_conf(self.get())
    }

    /// The first `Referer`.
    pub fn referer(&self) -> Option<&[u8]> {
        // SAFETY: null, or the header in the request's list.
        let referer = unsafe { self.get().headers_in.referer.as_ref() };
        referer.map(|header| header.value.as_bytes())
    }

    /// The values of all `Accept` headers, with commas between them.
    pub fn accept(&self) -> String {
        let accepted = self.headers().filter(|(name, _)| name.eq_ignore_ascii_case(b"accept"));
        accepted.map(|(_, value)| String::from_utf8_lossy(value)).collect::<Vec<_>>().join(",")
    }

    /// The request's headers, as name and value; none where nginx has not read any. They live as
    /// long as the request.
    pub fn headers<'r>(&self) -> impl Iterator<Item = (&'r [u8], &'r [u8])> {
        // SAFETY: the list belongs to the request, and its elements are headers.
        let headers = unsafe { elements(&(*self.as_ptr()).headers_in.headers) };
        headers.map(|header| (header.key.as_bytes(), header.value.as_bytes()))
    }

    /// nginx's list of the request's headers, created if nginx has not created it; `None` if nginx
    /// has no memory.
    pub(crate) fn header_list(&self) -> Option<NonNull<ngx_list_t>> {
        // SAFETY: the list belongs to the request; nothing else uses it while the reference lives.
        let list = unsafe { &mut (*self.as_ptr()).headers_in.headers };
        if list.last.is_null() {
            make_list(list, &self.pool())?;
        }
        Some(NonNull::from(list))
    }

    /// The path of the file that the request is for, null-terminated and without a slash at its
    /// end; `None` if nginx has no memory.
    pub fn file_path(&self) -> Option<ngx_str_t> {
        let (mut path, mut root) = (ngx_str_t::empty(), 0);
        // SAFETY: the request is alive, and the function writes to its last arguments.
        let last = unsafe { ngx_http_map_uri_to_path(self.as_ptr(), &mut path, &mut root, 0) };
        if last.is_null() {
            return None;
        }
        // The length that nginx gives has room for more than the path.
        path.len = (last as usize).checked_sub(path.data as usize)?;
        if path.as_bytes().last() == Some(&b'/') {
            path.len -= 1;
            // SAFETY: the slash was there.
            unsafe { path.data.add(path.len).write(0) };
        }
        Some(path)
    }

    /// Discards the body; the code for nginx if that fails.
    pub fn discard_body(&self) -> Result<(), isize> {
        // SAFETY: the request is alive, and its body was not read.
        match unsafe { ngx_http_discard_request_body(self.as_ptr()) } {
            code if code == NGX_OK as isize => Ok(()),
            code => Err(code),
        }
    }

    /// Sends a page with `Cache-Control: no-store`, and returns the code for nginx.
    pub fn send_page(&self, content_type: &'static str, text: &str) -> isize {
        let r = self.as_ptr();
        if let Err(code) = self.discard_body() {
            return code;
        }
        let pool = self.pool();
        let data: *mut u8 = pool.alloc_unaligned(text.len()).cast();
        let buffer: *mut ngx_buf_t = pool.calloc_type();
        let no_store = self.add_response_header(c"Cache-Control", static_string("no-store"));
        if data.is_null() || buffer.is_null() || no_store.is_none() {
            return NGX_HTTP_INTERNAL_SERVER_ERROR as isize;
        }
        // SAFETY: the pool has made room for both, and the request is alive.
        unsafe {
            data.copy_from_nonoverlapping(text.as_ptr(), text.len());
            let headers_out = &mut (*r).headers_out;
            headers_out.status = NGX_HTTP_OK as usize;
            headers_out.content_length_n = text.len() as nginx_sys::off_t;
            headers_out.content_type = static_string(content_type);
            // nginx leaves the parameters out of it.
            headers_out.content_type_len = content_type.find(';').unwrap_or(content_type.len());
            headers_out.content_type_lowcase = std::ptr::null_mut();

            (*buffer).pos = data;
            (*buffer).last = data.add(text.len());
            (*buffer).set_memory(1);
            (*buffer).set_last_buf((r == (*r).main).into());
            (*buffer).set_last_in_chain(1);
            let sent = ngx_http_send_header(r);
            if sent == NGX_ERROR as isize || sent > NGX_OK as isize || self.is_header_only() {
                return sent;
            }
            let mut chain = ngx_chain_t { buf: buffer, next: std::ptr::null_mut() };
            ngx_http_output_filter(r, &mut chain)
        }
    }

    /// A copy of a text that lives as long as the request; `None` where nginx has no memory.
    pub fn copy_string(&self, text: &str) -> Option<ngx_str_t> {
        self.copy_bytes(text.as_bytes())
    }

    /// The same of bytes.
    pub fn copy_bytes(&self, bytes: &[u8]) -> Option<ngx_str_t> {
        // SAFETY: the pool is the request's, and so alive.
        unsafe { ngx_str_t::from_bytes(self.pool().as_ptr(), bytes) }
    }

    /// The response's status as set so far.
    pub fn response_status(&self) -> usize {
        self.get().headers_out.status
    }

    /// Whether the scheme of `Authorization` is Negotiate.
    pub fn is_negotiate(&self) -> bool {
        // SAFETY: null, or the header in the request's list.
        let Some(header) = (unsafe { self.get().headers_in.authorization.as_ref() }) else {
            return false;
        };
        let scheme = header.value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"negotiate")
    }

    /// The user that another module has authenticated (`$remote_user`).
    pub fn remote_user(&self) -> Option<&str> {
        self.get().headers_in.user.to_str().ok().filter(|user| !user.is_empty())
    }

    /// Evaluates a value with variables for this request; `None` if nginx has no memory.
    pub fn evaluate(&self, value: &ngx_http_complex_value_t) -> Option<&[u8]> {
        let mut text = ngx_str_t::empty();
        let value = std::ptr::from_ref(value).cast_mut();
        // SAFETY: the request and the value are valid; nginx changes neither.
        let rc = unsafe { ngx_http_complex_value(self.as_ptr(), value, &mut text) };
        // SAFETY: the bytes lie in the request's pool or in the configuration, not in `text`.
        (rc == NGX_OK as isize).then(|| unsafe { bytes(&text) })
    }

    /// The value of a variable, looked up by its name in lower case; `None` where it has none.
    pub fn variable(&self, name: &'static str) -> Option<&[u8]> {
        let mut name = static_string(name);
        // SAFETY: the request is alive, and nginx does not change the name. Its value, where it is
        // valid, has as many bytes as it says, in the request's pool or longer-lived memory.
        unsafe {
            let hash = ngx_hash_key(name.data, name.len);
            let value = ngx_http_get_variable(self.as_ptr(), &mut name, hash).as_ref()?;
            let is_found = value.valid() != 0 && value.not_found() == 0 && value.len() > 0;
            is_found.then(|| std::slice::from_raw_parts(value.data, value.len() as usize))
        }
    }

    /// Evaluates a path with variables for this request, null-terminated; `None` if nginx has no
    /// memory.
    pub fn evaluate_path(&self, path: &ngx_http_complex_value_t) -> Option<ngx_str_t> {
        let mut text = ngx_str_t::empty();
        let path = std::ptr::from_ref(path).cast_mut();
        // SAFETY: the request and the value are valid; nginx changes neither.
        if unsafe { ngx_http_complex_value(self.as_ptr(), path, &mut text) } != NGX_OK as isize {
            return None;
        }
        // nginx counts the null in where there are variables, and does not where there are none.
        if text.as_bytes().last() == Some(&0) {
            text.len -= 1;
        }
        Some(text)
    }

    /// Removes the values that nginx has cached for these variables.
    pub fn forget_variables(&self, variables: &HeaderVariables) {
        for index in variables.indices() {
            // SAFETY: nginx keeps as many values in a request as the configuration has indexed
            // variables, of which these are some: a process serves one configuration, and
            // `of_cycle` has read the indices from it.
            let value = unsafe { &mut *(*self.as_ptr()).variables.add(*index) };
            value.set_valid(0);
            value.set_not_found(0);
        }
    }
}
