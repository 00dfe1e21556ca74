//! What the module remembers of a request, from the first phase to the log.

mod early;
mod request_token;
mod taken;
#[cfg(ngx_feature = "http_cache")]
mod variant;

use std::cell::{Cell, OnceCell, RefCell, UnsafeCell};
use std::ffi::c_void;
use std::future::Future;
use std::ptr::{self, fn_addr_eq, NonNull};

use keystone_conf::TokenSource;
use keystone_gateway::request_id::RequestId;
use keystone_token::result::AuthResult;
use nginx_sys::{
    ngx_delete_posted_event, ngx_event_t, ngx_http_request_t, ngx_pool_cleanup_add,
    ngx_pool_cleanup_t, ngx_post_event, ngx_posted_events,
};
use ngx::async_::Task;
use ngx::http::HttpModule;

pub use self::early::{EarlyHeaders, States};
pub use self::request_token::{CacheStatus, RequestToken, TokenKind};
use self::taken::TakenTokens;
#[cfg(ngx_feature = "http_cache")]
use self::variant::Variant;
use crate::conf::location::LocationConf;
use crate::log::AsLog;
use crate::panic::catch_panic;
use crate::request::{PhaseHandler, Request};
use crate::tokens::removed::Removed;
use crate::tokens::{take_alike, Duplicate, Tokens};
use crate::worker::Worker;
use crate::{HttpKeystoneModule, ACCESS_HANDLER};

/// How the tokens of a request were taken.
struct Taken {
    location: &'static LocationConf,
    /// The index of the value of `keystone_token`.
    source: Option<usize>,
    is_in_place: bool,
    duplicate: Option<Duplicate>,
}

/// A request's context. It lives in nginx's pool of the request, at one address.
///
/// nginx may come back to it while one of its handlers runs (a variable in a `keystone_require`),
/// so it is shared, and what changes is in cells.
pub struct Context {
    request: Request,
    users: TakenTokens,
    services: TakenTokens,
    /// How the tokens were last taken.
    taken: RefCell<Option<Taken>>,
    /// Whether that was in this location.
    is_taken_here: Cell<bool>,
    /// The headers and arguments with tokens that an upstream does not get.
    pub removed: RefCell<Removed>,
    /// The id of the request, once it has one.
    pub request_id: OnceCell<RequestId>,
    /// `$keystone_auth_result`.
    pub result: Cell<Option<AuthResult>>,
    /// The status of the refusal whose page is still to be sent.
    pub refusal: Cell<Option<usize>>,
    waiting: RefCell<Option<Task<()>>>,
    resume: UnsafeCell<ngx_event_t>,
    /// The handler that goes on with the request when it has waited.
    resume_at: Cell<PhaseHandler>,
    /// The identity headers that no access phase has let pass.
    early_headers: RefCell<Option<EarlyHeaders>>,
    /// The location in which the access phase has let the request pass.
    passed: Cell<Option<&'static LocationConf>>,
    /// Whether the path ended in a slash before `try_files` could add one.
    pub is_folder: Cell<bool>,
    demanded_token: Cell<bool>,
    /// What nginx's cache knows of tokens that were removed.
    #[cfg(ngx_feature = "http_cache")]
    pub variant: RefCell<Variant>,
}

impl Context {
    /// The context of this request, also after an internal redirect (which makes nginx forget it),
    /// and of a subrequest's main request.
    pub fn find(request: &Request) -> Option<&Self> {
        // SAFETY: the main request lives as long as its subrequests.
        let main = unsafe { Self::attached((*request.as_ptr()).main) };
        // A main request may have as many cleanups as there are slices of a response.
        if let Some(context) = Self::of_location(request).or(main) {
            return Some(context);
        }
        let mut cleanup = request.pool().as_ref().cleanup;
        // SAFETY: the list of a live pool's cleanups ends with null.
        while let Some(entry) = unsafe { cleanup.as_ref() } {
            if entry.handler.is_some_and(|handler| fn_addr_eq(handler, DESTROY)) {
                // SAFETY: `create` is the one place that adds this handler, with a context that
                // lives until the handler runs, which it does when the request ends.
                return unsafe { entry.data.cast::<Self>().as_ref() };
            }
            cleanup = entry.next;
        }
        None
    }

    /// The context, if the request has not been redirected since it was attached.
    pub fn of_location(request: &Request) -> Option<&Self> {
        // SAFETY: the request is alive, and so is its context.
        unsafe { Self::attached(request.as_ptr()) }
    }

    /// The context that is attached to a request.
    ///
    /// # Safety
    /// The request is alive, and stays so for `'r`.
    unsafe fn attached<'r>(r: *mut ngx_http_request_t) -> Option<&'r Self> {
        let index = HttpKeystoneModule::module().ctx_index;
        // SAFETY: nginx keeps a pointer for each module in a request. It is null, or what `attach` has
        // stored; see `find`.
        unsafe { (*(*r).ctx.add(index)).cast::<Self>().as_ref() }
    }

    /// The context of a main request, made if there is none; `None` where nginx has no memory.
    pub fn of(request: &Request) -> Option<&Self> {
        if let Some(context) = Self::of_location(request) {
            return Some(context);
        }
        let context = match Self::find(request) {
            Some(context) => context,
            None => Self::create(request)?,
        };
        // The result of the previous location does not count in this one: a refusal was answered
        // by the redirect, and a path that may pass there may be another one here.
        context.refusal.set(None);
        context.passed.set(None);
        context.is_taken_here.set(false);
        context.attach();
        Some(context)
    }

    fn create(request: &Request) -> Option<&Self> {
        // SAFETY: the pool is the request's, and so alive.
        let cleanup: *mut ngx_pool_cleanup_t =
            unsafe { ngx_pool_cleanup_add(request.pool().as_ptr(), size_of::<Self>()) };
        let cleanup = NonNull::new(cleanup)?;
        let context = Self {
            request: *request,
            users: TakenTokens::default(),
            services: TakenTokens::default(),
            taken: RefCell::new(None),
            is_taken_here: Cell::new(false),
            removed: RefCell::default(),
            request_id: OnceCell::new(),
            result: Cell::new(None),
            refusal: Cell::new(None),
            waiting: RefCell::new(None),
            // SAFETY: all-zero is an event that is neither armed nor posted.
            resume: unsafe { std::mem::zeroed() },
            resume_at: Cell::new(ACCESS_HANDLER),
            early_headers: RefCell::new(None),
            passed: Cell::new(None),
            is_folder: Cell::new(false),
            demanded_token: Cell::new(false),
            #[cfg(ngx_feature = "http_cache")]
            variant: RefCell::default(),
        };
        // SAFETY: nginx has allocated the room that was asked for, aligned as its own structures.
        unsafe {
            let at: *mut Self = (*cleanup.as_ptr()).data.cast();
            at.write(context);
            let event = (*at).resume.get();
            (*event).data = at.cast();
            (*event).handler = Some(resume);
            (*event).log = request.as_log();
            (*cleanup.as_ptr()).handler = Some(DESTROY);
            at.as_ref()
        }
    }

    fn attach(&self) {
        let index = HttpKeystoneModule::module().ctx_index;
        let this = std::ptr::from_ref(self).cast_mut();
        // SAFETY: nginx keeps a pointer for each module in a request.
        unsafe { *(*self.request.as_ptr()).ctx.add(index) = this.cast() };
    }

    /// Takes the tokens as the location asks for them, once in it; `None` where nginx has no memory.
    pub fn take_tokens(&self, location: &'static LocationConf) -> Option<()> {
        if self.is_taken_here.get() {
            return Some(());
        }
        let taken = self.request.take_tokens(location, &self.removed.borrow())?;
        let (tokens, duplicate) = match taken {
            Ok(tokens) => (tokens, None),
            Err(duplicate) => (Tokens::default(), Some(duplicate)),
        };
        self.users.take(TokenKind::User, tokens.user);
        self.services.take(TokenKind::Service, tokens.service);
        let Tokens { source, is_in_place, .. } = tokens;
        self.taken.replace(Some(Taken { location, source, is_in_place, duplicate }));
        self.is_taken_here.set(true);
        Some(())
    }

    /// Forgets whose request it is, if the location takes the user token from other values than the
    /// one before.
    pub fn forget_user_from_elsewhere(&self, location: &LocationConf) {
        let is_alike = |taken: &Taken| take_alike(taken.location, location);
        if !self.taken.borrow().as_ref().is_none_or(is_alike) {
            self.users.forget();
        }
    }

    /// The user token, once it was taken.
    pub fn user(&self) -> Option<&RequestToken> {
        self.users.current()
    }

    /// The token of `X-Service-Token`, once it was taken.
    pub fn service(&self) -> Option<&RequestToken> {
        self.services.current()
    }

    /// What came more than once in this location and may not, if anything did.
    pub fn duplicate(&self) -> Option<Duplicate> {
        self.taken.borrow().as_ref().and_then(|taken| taken.duplicate.clone())
    }

    /// The location that the tokens were last taken in, and which value of `keystone_token` the user
    /// token is.
    pub fn token_source(&self) -> Option<(&'static LocationConf, Option<usize>)> {
        self.taken.borrow().as_ref().map(|taken| (taken.location, taken.source))
    }

    /// Whether the request's `X-Auth-Token` is the user token, or is rightly missing.
    pub fn is_token_in_place(&self) -> bool {
        self.taken.borrow().as_ref().is_none_or(|taken| taken.is_in_place)
    }

    /// The user token, if it was not in `X-Auth-Token`.
    pub fn token_from_elsewhere(&self) -> Option<&[u8]> {
        self.user().filter(|_| !self.is_token_in_place()).and_then(RequestToken::bytes)
    }

    /// The user token, if it was made of other variables than those that show one part of the
    /// request. What is shorter than any token may be a part of anything, and is left out.
    pub fn made_token(&self) -> Option<&[u8]> {
        let (location, source) = self.token_source()?;
        let source = location.token_sources()?.get(source?)?;
        let user = self.user().filter(|_| matches!(source, TokenSource::Value(_)));
        user.and_then(RequestToken::bytes).filter(|token| token.len() >= SHORTEST_TOKEN)
    }

    /// Notes that a location of the request demands a token, whatever location it is redirected to.
    pub fn demand_token(&self) {
        self.demanded_token.set(true);
    }

    /// Whether one has.
    pub fn has_demanded_token(&self) -> bool {
        self.demanded_token.get()
    }

    /// Notes that the request has identity headers before the access phase.
    pub fn note_early_headers(&self, headers: EarlyHeaders) {
        self.early_headers.replace(Some(headers));
    }

    /// Whether the request has these identity headers already, and nobody has touched them.
    pub fn has_early_headers(&self, states: States) -> bool {
        let headers = self.early_headers.borrow();
        headers.as_ref().is_some_and(|headers| headers.stand(&self.request, states))
    }

    /// Whether the request has identity headers of a location whose access phase has not let it
    /// pass; said once.
    pub fn take_early_headers(&self) -> bool {
        self.early_headers.take().is_some()
    }

    /// Notes that the access phase has let the request pass in this location.
    pub fn pass(&self, location: &'static LocationConf) {
        self.early_headers.take();
        self.passed.set(Some(location));
    }

    /// The last location in which it has done so, if no location that asks for tokens came since.
    pub fn passed(&self) -> Option<&'static LocationConf> {
        self.passed.get()
    }

    /// Whether it has done so, and the request was not redirected since.
    pub fn has_passed(&self, location: &'static LocationConf) -> bool {
        self.passed.get().is_some_and(|passed| ptr::eq(passed, location))
    }

    /// Says which handler goes on with the request when it waits.
    pub fn resume_at(&self, handler: PhaseHandler) {
        self.resume_at.set(handler);
    }

    /// Whether the request waits for an answer.
    pub fn is_waiting(&self) -> bool {
        self.waiting.borrow().is_some()
    }

    /// Makes the request wait for `work`, whose outcome one of the context's tokens notes; the
    /// handler of its phase is entered again when that has ended. `None` where nginx cannot watch the
    /// client meanwhile.
    pub fn wait_for<T: 'static>(
        &self,
        request_token: &RequestToken,
        work: impl Future<Output = T> + 'static,
        note: fn(&RequestToken, T),
    ) -> Option<()> {
        self.request.suspend()?;
        let (this, request_token) = (NonNull::from(self), NonNull::from(request_token));
        let task = crate::net::spawn(async move {
            let outcome = work.await;
            // SAFETY: the task and the token belong to the context: if that is gone, this is not
            // reached.
            let (context, request_token) = unsafe { (this.as_ref(), request_token.as_ref()) };
            note(request_token, outcome);
            // Not from here: the code that woke this task has not finished.
            // SAFETY: the event lies in the context, which takes it back when it is destroyed.
            unsafe { ngx_post_event(context.resume.get(), &raw mut ngx_posted_events) };
        });
        // The answer may be there already: then the event is posted, and the task has ended.
        self.waiting.replace(Some(task));
        Some(())
    }
}

impl Context {
    /// Ends the wait, whatever has become of what the request waits for.
    pub fn stop_waiting(&self) {
        // Cancels the task.
        self.waiting.take();
        let event = self.resume.get();
        // SAFETY: the event lies in the context. One that is posted is in nginx's queue, and so can
        // be taken out.
        unsafe {
            if (*event).posted() != 0 {
                ngx_delete_posted_event(event);
            }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // Before what the task and the event point to goes.
        self.stop_waiting();
        // Here, when it can change no more: a redirect may have led to another one.
        if let Some(result) = self.result.get() {
            Worker::count_result(result);
        }
    }
}

unsafe extern "C" fn resume(event: *mut ngx_event_t) {
    catch_panic((), || {
        // SAFETY: the event lies in the context that its data points to; were that gone, the event
        // would not be in the queue any more.
        let (request, handler) = unsafe {
            let context = &*(*event).data.cast::<Context>();
            context.waiting.take();
            (context.request, context.resume_at.get())
        };
        debug!(request, "keystone: the request goes on");
        // SAFETY: this is an event handler of nginx's loop, and the event is posted only while the
        // request waits.
        unsafe { request.resume_at(handler) };
    });
}

/// The one address of `destroy`, by which a context is found again.
static DESTROY: unsafe extern "C" fn(*mut c_void) = destroy;

unsafe extern "C" fn destroy(data: *mut c_void) {
    catch_panic((), || {
        // SAFETY: nginx runs this once, when the pool goes, with what `create` has written.
        unsafe { data.cast::<Context>().drop_in_place() };
    });
}

/// No token of Keystone's is shorter than a UUID without dashes.
const SHORTEST_TOKEN: usize = 32;
