//! A connection to a server, owned by one task at a time.
//!
//! nginx keeps its own pointer to what belongs to a connection in `c->data`. Here that is an
//! [`Inner`] behind an `Rc`, whose address is stable and whose `Drop` closes the connection: so as
//! long as nginx may call a handler with `c`, `c->data` is live.
//!
//! A connection is *active* while a task waits for it, and every event wakes that task. It is
//! *idle* while it waits in the pool: then the only event that it can see is its end (the peer
//! closes, sends unexpected data, or nginx wants it closed), and the handler closes it on the
//! spot. The pool then holds a connection for which [`PeerConnection::is_open`] is false.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nginx_sys::{
    ngx_add_timer, ngx_close_connection, ngx_connection_t, ngx_del_timer, ngx_event_connect_peer,
    ngx_event_get_peer, ngx_event_t, ngx_handle_read_event, ngx_handle_write_event, ngx_log_t,
    ngx_peer_connection_t, ngx_tcp_nodelay,
};
use ngx::core::Status;
use socket2::{SockAddr, SockRef};

use super::error::{NetError, Phase};
use super::peer::{Peer, PeerAddr};
use super::timer::to_msec;
use crate::panic::catch_panic;

mod log;
mod plain;

pub(super) use self::log::{Action, OwnedPool};

/// An nginx connection to a server. Clones are other handles to the same connection.
#[derive(Clone)]
pub struct PeerConnection {
    inner: Rc<Inner>,
}

/// How long the steps of a connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For TCP to connect, and again for the TLS handshake.
    pub connect: Duration,
    /// Between two successful reads.
    pub read: Duration,
    /// Between two successful writes.
    pub send: Duration,
}

impl PeerConnection {
    /// Connects to `peer`, and waits until the connection is established.
    pub async fn connect(
        peer: &Peer<'_>,
        timeouts: Timeouts,
        parent_log: NonNull<ngx_log_t>,
    ) -> Result<Self, NetError> {
        let error = |reason, timed_out| {
            let address = peer.address.to_string();
            NetError::Connect { address, reason, timed_out }
        };
        let failed = |reason: String| error(reason, false);

        let pool =
            OwnedPool::new(parent_log, peer).ok_or_else(|| failed("out of memory".to_owned()))?;
        let inner = Rc::new(Inner {
            connection: Cell::new(ptr::null_mut()),
            idle: Cell::new(false),
            received: Cell::new(0),
            timed_out: Cell::new(None),
            timeouts: Cell::new(timeouts),
            waker: Cell::new(None),
            pool,
        });
        let connection = Self { inner };

        connection.set_action(Action::Connecting);
        connection.start(peer.address).map_err(|err| failed(err.to_string()))?;
        connection.inner.add_write_timer(timeouts.connect);
        poll_fn(|cx| connection.inner.poll_connected(cx)).await.map_err(|err| {
            match err.kind() {
                io::ErrorKind::TimedOut => error("timed out".to_owned(), true),
                _ => failed(err.to_string()),
            }
        })?;
        connection.inner.do_not_delay();

        Ok(connection)
    }

    /// Whether the connection has neither been closed nor failed.
    pub fn is_open(&self) -> bool {
        !self.inner.connection.get().is_null()
    }

    /// How many bytes of answers came since the connection was last made active; those of TLS
    /// itself are none.
    pub fn received(&self) -> usize {
        self.inner.received.get()
    }

    pub(super) fn add_received(&self, n: usize) {
        self.inner.received.set(self.inner.received.get().saturating_add(n));
    }

    /// What the connection was waiting for when its time was up, if it was.
    pub(super) fn timed_out(&self) -> Option<Phase> {
        self.inner.timed_out.get()
    }

    /// Sets what the log says the connection is doing.
    pub(super) fn set_action(&self, action: Action) {
        self.inner.pool.set_action(action);
    }

    /// Changes how long reads and writes may take.
    pub(super) fn set_timeouts(&self, timeouts: Timeouts) {
        self.inner.timeouts.set(timeouts);
    }

    /// Closes the connection; every further operation fails.
    pub(super) fn close(&self) {
        self.inner.close();
    }

    /// Leaves the connection to itself for at most `timeout`: no task waits for it any more, and
    /// it is closed as soon as anything happens on it, or when nginx wants its idle connections
    /// closed.
    pub fn make_idle(&self, timeout: Duration) {
        self.inner.make_idle(timeout);
    }

    /// Takes the connection back from idleness.
    pub fn make_active(&self) {
        self.inner.make_active();
    }

    /// Registers the task that the next event wakes.
    pub(super) fn set_waker(&self, cx: &Context<'_>) {
        self.inner.waker.set(Some(cx.waker().clone()));
    }

    fn start(&self, address: &PeerAddr) -> io::Result<()> {
        let sockaddr = SockAddr::try_from(address)?;
        let log = self.inner.pool.log();
        let mut name = self.inner.pool.name();

        // SAFETY: zero is the initial state that nginx gives an ngx_peer_connection_t.
        let mut peer: ngx_peer_connection_t = unsafe { mem::zeroed() };
        peer.sockaddr = sockaddr.as_ptr().cast_mut().cast();
        peer.socklen = sockaddr.len();
        peer.name = ptr::addr_of_mut!(name);
        peer.get = Some(ngx_event_get_peer);
        peer.log = log;
        // Failures are returned, and reported by the caller that gives up.
        peer.set_log_error(nginx_sys::ngx_connection_log_error_e_NGX_ERROR_INFO);

        let rc = self.inner.pool.without_connect_errors(|| {
            // SAFETY: `peer` and all that it points to outlive the call; nginx copies what it
            // keeps, except for the log, which lives in the pool that outlives the connection.
            Status(unsafe { ngx_event_connect_peer(&mut peer) })
        });
        if rc != Status::NGX_OK && rc != Status::NGX_AGAIN {
            return Err(io::Error::last_os_error());
        }

        let c = peer.connection;
        // SAFETY: nginx has just returned the connection, with its two events, for us to own.
        // `data` stays valid because `Inner` closes the connection before it goes, and `pool`
        // because it is destroyed after that.
        unsafe {
            (*c).data = Rc::as_ptr(&self.inner).cast_mut().cast();
            (*c).pool = self.inner.pool.as_ptr();
            (*log).connection = (*c).number;
            (*(*c).read).handler = Some(on_event);
            (*(*c).write).handler = Some(on_event);
        }
        self.inner.connection.set(c);
        Ok(())
    }
}

/// Non-blocking reads and writes: `WouldBlock` means that the task registered with `set_waker` is
/// woken when it is worth another try.
impl io::Read for PeerConnection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

impl io::Write for PeerConnection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Inner {
    /// Null once closed; before that ours alone, with `data` pointing here.
    connection: Cell<*mut ngx_connection_t>,
    idle: Cell<bool>,
    received: Cell<usize>,
    timed_out: Cell<Option<Phase>>,
    timeouts: Cell<Timeouts>,
    /// Reads and writes belong to one task, so one waker is enough.
    waker: Cell<Option<Waker>>,
    /// Memory and log of the connection: dropped after `Drop::drop` has closed it.
    pool: OwnedPool,
}

impl Inner {
    fn poll_connected(&self, cx: &Context<'_>) -> Poll<io::Result<()>> {
        let c = self.connection.get();
        if c.is_null() {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        }
        self.waker.set(Some(cx.waker().clone()));

        // SAFETY: `c` is not null, so it is open and ours, and its events are valid.
        let (timed_out, writable) =
            unsafe { ((*(*c).write).timedout() != 0, (*(*c).write).ready() != 0) };
        if timed_out {
            self.timed_out.set(Some(Phase::Connect));
            self.close();
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let failed = self.with_socket(|socket| socket.take_error().unwrap_or_else(Some));
        if let Some(err) = failed {
            self.close();
            return Poll::Ready(Err(err));
        }
        if !writable {
            return Poll::Pending;
        }
        self.del_write_timer();
        Poll::Ready(Ok(()))
    }

    /// What is sent waits for no other packet: it is a whole request, or the rest of one.
    fn do_not_delay(&self) {
        let c = self.connection.get();
        if !c.is_null() {
            // SAFETY: `c` is open and ours. A failure, which nginx logs, costs time and no more.
            unsafe { ngx_tcp_nodelay(c) };
        }
    }

    fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let c = self.connection.get();
        if c.is_null() {
            return Err(io::ErrorKind::NotConnected.into());
        }

        // SAFETY: `c` is open and ours, and `recv` is set on every stream connection; it writes at
        // most `buf.len()` bytes. No Rust reference to what `c` points to is held.
        let (n, rearmed) = unsafe {
            if (*(*c).read).timedout() != 0 {
                self.timed_out.set(Some(Phase::Read));
                return Err(io::ErrorKind::TimedOut.into());
            }
            let Some(recv) = (*c).recv else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            // nginx reports data by events: without one, a system call would find nothing.
            let n = match (*(*c).read).ready() {
                0 => nginx_sys::NGX_AGAIN as isize,
                _ => recv(c, buf.as_mut_ptr(), buf.len()),
            };
            if n == nginx_sys::NGX_ERROR as isize {
                return Err(io::Error::last_os_error());
            }
            (n, Status(ngx_handle_read_event((*c).read, 0)) == Status::NGX_OK)
        };
        if !rearmed {
            return Err(io::Error::other("event registration failed"));
        }

        if n == nginx_sys::NGX_AGAIN as isize {
            self.add_read_timer(self.timeouts.get().read, false);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.del_read_timer();
        usize::try_from(n).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let c = self.connection.get();
        if c.is_null() {
            return Err(io::ErrorKind::NotConnected.into());
        }

        // SAFETY: as in `read`; `send` only reads from `buf`, whatever its type says.
        let (n, rearmed) = unsafe {
            if (*(*c).write).timedout() != 0 {
                self.timed_out.set(Some(Phase::Send));
                return Err(io::ErrorKind::TimedOut.into());
            }
            let Some(send) = (*c).send else {
                return Err(io::ErrorKind::Unsupported.into());
            };
            let n = send(c, buf.as_ptr().cast_mut(), buf.len());
            if n == nginx_sys::NGX_ERROR as isize {
                return Err(io::Error::last_os_error());
            }
            (n, Status(ngx_handle_write_event((*c).write, 0)) == Status::NGX_OK)
        };
        if !rearmed {
            return Err(io::Error::other("event registration failed"));
        }

        if n == nginx_sys::NGX_AGAIN as isize {
            self.add_write_timer(self.timeouts.get().send);
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.del_write_timer();
        // The time for the answer counts from the last byte of the request.
        self.add_read_timer(self.timeouts.get().read, true);
        usize::try_from(n).map_err(|_| io::ErrorKind::Unsupported.into())
    }

    fn make_idle(&self, timeout: Duration) {
        let c = self.connection.get();
        if c.is_null() {
            return;
        }
        self.waker.set(None);
        self.idle.set(true);
        self.pool.set_action(Action::Idle);
        self.del_write_timer();
        self.del_read_timer();
        self.add_read_timer(timeout, false);

        // SAFETY: `c` is open and ours.
        let readable = unsafe {
            (*c).set_idle(1);
            (*(*c).read).ready() != 0
        };
        if readable {
            self.check_idle();
        }
    }

    fn make_active(&self) {
        let c = self.connection.get();
        if c.is_null() {
            return;
        }
        self.idle.set(false);
        self.received.set(0);
        self.del_read_timer();
        // SAFETY: `c` is open and ours.
        unsafe { (*c).set_idle(0) };
    }

    fn on_event(&self) {
        if self.idle.get() {
            self.check_idle();
            return;
        }
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Closes an idle connection unless nothing has happened on it.
    fn check_idle(&self) {
        let c = self.connection.get();
        if c.is_null() {
            return;
        }

        // SAFETY: `c` is open and ours, and its events are valid.
        let unwanted = unsafe {
            let read = (*c).read;
            // The event may have been one for writing.
            let is_silent = || (*read).ready() == 0 || self.with_socket(|it| is_silent(&it));
            if (*c).close() != 0 || (*read).timedout() != 0 || !is_silent() {
                true
            } else {
                (*read).set_ready(0);
                Status(ngx_handle_read_event(read, 0)) != Status::NGX_OK
            }
        };
        if unwanted {
            debug!(self.pool.log(), "keystone: closing idle connection");
            self.close();
        }
    }

    fn close(&self) {
        let c = self.connection.replace(ptr::null_mut());
        if !c.is_null() {
            // SAFETY: `c` is open and ours; from here on nginx calls none of its handlers, and no
            // copy of the pointer is left.
            unsafe { ngx_close_connection(c) };
        }
    }

    /// Starts the read timer if it is not running, or anew if it is and `restart` says so.
    fn add_read_timer(&self, timeout: Duration, restart: bool) {
        self.with_event(
            |c| c.read,
            |event| {
                // SAFETY: `with_event` passes a valid event of the open connection.
                unsafe {
                    if restart == ((*event).timer_set() != 0) {
                        ngx_add_timer(event, to_msec(timeout));
                    }
                }
            },
        );
    }

    fn del_read_timer(&self) {
        self.with_event(|c| c.read, del_timer);
    }

    fn add_write_timer(&self, timeout: Duration) {
        self.with_event(
            |c| c.write,
            |event| {
                // SAFETY: `with_event` passes a valid event of the open connection.
                unsafe {
                    if (*event).timer_set() == 0 {
                        ngx_add_timer(event, to_msec(timeout));
                    }
                }
            },
        );
    }

    fn del_write_timer(&self) {
        self.with_event(|c| c.write, del_timer);
    }

    /// Calls the system on the socket of the open connection.
    fn with_socket<T>(&self, call: impl FnOnce(SockRef<'_>) -> T) -> T {
        // SAFETY: the connection is open, so its descriptor is, and `call` does not close it.
        let fd = unsafe { BorrowedFd::borrow_raw((*self.connection.get()).fd) };
        call(SockRef::from(&fd))
    }

    fn with_event(
        &self,
        which: impl FnOnce(&ngx_connection_t) -> *mut ngx_event_t,
        then: impl FnOnce(*mut ngx_event_t),
    ) {
        let c = self.connection.get();
        if !c.is_null() {
            // SAFETY: `c` is open and ours; the reference ends before `then` runs.
            then(which(unsafe { &*c }));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

/// Whether the peer has neither sent anything nor closed.
fn is_silent(socket: &SockRef<'_>) -> bool {
    let peeked = socket.peek(&mut [MaybeUninit::uninit()]);
    peeked.is_err_and(|err| err.kind() == io::ErrorKind::WouldBlock)
}

fn del_timer(event: *mut ngx_event_t) {
    // SAFETY: only called through `Inner::with_event`, with an event of the open connection.
    unsafe {
        if (*event).timer_set() != 0 {
            ngx_del_timer(event);
        }
    }
}

unsafe extern "C" fn on_event(event: *mut ngx_event_t) {
    // SAFETY: this handler is installed only by `PeerConnection::start`, so `data` of the event is
    // a connection whose own `data` is an Inner in an Rc, live as long as the connection is open
    // and nobody drops it: what the handler does runs no task.
    let inner = unsafe { &*(*(*event).data.cast::<ngx_connection_t>()).data.cast::<Inner>() };
    catch_panic((), || inner.on_event());
}
