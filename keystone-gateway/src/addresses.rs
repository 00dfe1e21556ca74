//! Which address of a server is tried first.

use std::cell::RefCell;

/// The address of a server that served last.
///
/// A name can have several addresses, and the list may change while the name is in use. The address
/// that accepted last is tried first, and the others follow in the order of the list, which starts
/// again at its end. After an address that accepted but did not serve, the one behind it is the
/// first.
#[derive(Clone, Debug)]
pub struct PreferredAddress<A> {
    accepted: RefCell<Option<Accepted<A>>>,
}

#[derive(Clone, Debug)]
struct Accepted<A> {
    address: A,
    /// Whether it did not serve what was asked for then.
    failed: bool,
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
                    let accepted = Accepted { address: address.clone(), failed: false };
                    self.accepted.replace(Some(accepted));
                    return Ok(connection);
                }
                Err(error) => last_error = Some(error),
            }
        }
        Err(last_error)
    }

    /// Lets the next connection begin behind an address that accepted and did not serve, unless
    /// another one has accepted since.
    pub fn leave(&self, address: &A) {
        let mut accepted = self.accepted.borrow_mut();
        if let Some(accepted) = accepted.as_mut().filter(|it| it.address == *address) {
            accepted.failed = true;
        }
    }

    fn order<'a>(&self, addresses: &'a [A]) -> impl Iterator<Item = &'a A> + use<'a, A> {
        let accepted = self.accepted.borrow();
        let first = accepted.as_ref().and_then(|accepted| {
            let at = addresses.iter().position(|address| *address == accepted.address)?;
            Some(at + usize::from(accepted.failed))
        });
        let (before, after) = addresses.split_at(first.unwrap_or(0));
        after.iter().chain(before)
    }
}

#[cfg(test)]
mod tests;
