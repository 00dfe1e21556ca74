//! Which address of a server is tried first.

use std::cell::RefCell;

/// The address of a server that accepted a connection last.
///
/// A name can have several addresses, and the list may change while the name is in use. The address
/// that accepted last is tried first, and the others follow in the order of the list, which starts
/// again at its end.
#[derive(Clone, Debug)]
pub struct PreferredAddress<A> {
    accepted: RefCell<Option<A>>,
}

impl<A> Default for PreferredAddress<A> {
    fn default() -> Self {
        Self { accepted: RefCell::new(None) }
    }
}

impl<A: Clone + PartialEq> PreferredAddress<A> {
    /// Calls `connect` for one address after the other until it succeeds, and remembers the
    /// address. Fails with the last error, or with `None` if `addresses` is empty.
    pub async fn connect<T, E>(
        &self,
        addresses: &[A],
        connect: impl AsyncFn(&A) -> Result<T, E>,
    ) -> Result<T, Option<E>> {
        let mut last_error = None;
        for address in self.order(addresses) {
            match connect(address).await {
                Ok(connection) => {
                    *self.accepted.borrow_mut() = Some(address.clone());
                    return Ok(connection);
                }
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error)
    }

    fn order<'a>(&self, addresses: &'a [A]) -> impl Iterator<Item = &'a A> + use<'a, A> {
        let accepted = self.accepted.borrow();
        let first = addresses.iter().position(|address| accepted.as_ref() == Some(address));
        let (before, after) = addresses.split_at(first.unwrap_or(0));
        after.iter().chain(before)
    }
}

#[cfg(test)]
mod tests;
