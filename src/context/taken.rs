//! The tokens of one kind that a request's locations have taken.

use std::cell::{Cell, OnceCell};
use std::ptr::NonNull;

use super::{RequestToken, TokenKind};

/// The tokens, in the order in which they came. None goes before the request ends: headers of the
/// request lie in their identities.
#[derive(Default)]
pub struct TakenTokens {
    first: OnceCell<Link>,
    /// The place of the one that counts in this location.
    current: Cell<Option<usize>>,
}

/// Whether it is the same token. Most requests have one, at one place.
fn is_same(one: Option<&[u8]>, other: Option<&[u8]>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => std::ptr::eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

struct Link {
    token: RequestToken,
    next: OnceCell<Box<Link>>,
}

impl TakenTokens {
    /// The one that counts in this location, once it was taken.
    pub fn current(&self) -> Option<&RequestToken> {
        let mut tokens =
            std::iter::successors(self.first.get(), |link| link.next.get().map(|it| &**it));
        tokens.nth(self.current.get()?).map(|link| &link.token)
    }

    /// Lets a token count; it is authenticated once, whatever locations take it.
    pub fn take(&self, kind: TokenKind, token: Option<NonNull<[u8]>>) {
        let new = || Link { token: RequestToken::new(kind, token), next: OnceCell::new() };
        // SAFETY: a token lies in the request's memory, as this does.
        let bytes = token.map(|token| unsafe { token.as_ref() });
        let (mut link, mut place) = (self.first.get_or_init(new), 0);
        while !is_same(link.token.bytes(), bytes) {
            link = link.next.get_or_init(|| Box::new(new()));
            place += 1;
        }
        self.current.set(Some(place));
    }

    /// Lets none count until one is taken again.
    pub fn forget(&self) {
        self.current.set(None);
    }
}
