//! Makes cases out of numbers: the same seed and number make the same case, but for the tokens,
//! which are new in each run.

use std::time::Duration;

use keystone_testbed::random::Random;

use crate::case::{Case, Ending, Step};
use crate::guard::Grants;
use crate::instance::PLANS;
use crate::site::{Door, Site};
use crate::wallet::Wallet;

mod bytes;
mod field;
mod http1;
mod http2;
mod target;

/// What cases are made from.
pub struct Generator<'a> {
    /// The seed of the run.
    pub seed: u64,
    /// The tokens to choose from.
    pub wallet: &'a Wallet,
    /// The servers of each instance.
    pub sites: Vec<&'a [Site]>,
}

impl Generator<'_> {
    /// The case of a number.
    pub fn case(&self, number: u64) -> Case {
        let mut random = Random::new(self.seed ^ number.wrapping_mul(0x9e6c_63d0_876a_3f6b));
        // The first numbers of related seeds are related.
        random.below(2);
        let instance = match random.percent(10) {
            // The slow one takes the most time.
            true => PLANS.len() - 1,
            false => random.below(PLANS.len() - 1),
        };
        let site = random.below(self.sites[instance].len());
        let mut maker = Maker {
            number,
            site: &self.sites[instance][site],
            wallet: self.wallet,
            grants: Grants::NONE,
            copies: 1,
            requests: 0,
            streams: 0,
            is_tame: random.percent(50),
            random,
        };
        let door = maker.random.pick(DOORS);
        let speaks_h2 = match door {
            Door::H2 => maker.is_tame || !maker.random.percent(6),
            Door::Plain => !maker.is_tame && maker.random.percent(4),
            Door::Tls => maker.random.percent(50),
        };
        let alpn: Option<&[u8]> = match door {
            Door::Tls if maker.is_tame || maker.random.percent(80) => {
                Some(alpn(speaks_h2, &mut maker.random))
            }
            _ => None,
        };
        let steps = match speaks_h2 {
            _ if !maker.is_tame && door != Door::Tls && maker.random.percent(2) => {
                maker.client_hello()
            }
            true => maker.http2(),
            false => maker.http1(),
        };
        let ending = maker.ending();
        let quiet = match maker.is_tame {
            // nginx says when it is at its end, and may be busy.
            true => 5000,
            false => maker.random.pick(QUIET),
        };
        let quiet = Duration::from_millis(quiet);
        Case {
            number,
            instance,
            site,
            door,
            alpn,
            steps,
            ending,
            quiet,
            grants: maker.grants,
            copies: maker.copies,
            requests: maker.requests,
            streams: maker.streams,
        }
    }
}

/// Generates one case.
struct Maker<'a> {
    number: u64,
    site: &'a Site,
    wallet: &'a Wallet,
    random: Random,
    grants: Grants,
    copies: usize,
    requests: usize,
    streams: usize,
    /// Whether nothing on the connection is such that nginx refuses it, so that there are good
    /// answers too.
    is_tame: bool,
}

impl Maker<'_> {
    fn ending(&mut self) -> Ending {
        match self.random.below(100) {
            0..55 => Ending::Close,
            55..80 => Ending::HalfClose,
            // This takes as long as nginx's time-outs.
            80..82 => Ending::Wait,
            82..91 => Ending::Abandon,
            _ => Ending::Reset,
        }
    }

    /// How a TLS handshake begins, on a port that knows no TLS.
    fn client_hello(&mut self) -> Vec<Step> {
        let mut bytes = b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03".to_vec();
        bytes.extend(self.noise(200));
        self.requests += 1;
        vec![Step::Send(bytes)]
    }
}

fn alpn(speaks_h2: bool, random: &mut Random) -> &'static [u8] {
    match speaks_h2 {
        _ if random.percent(5) => b"\x02h3\x02h2",
        true => b"\x02h2",
        false => b"\x08http/1.1",
    }
}

const DOORS: &[Door] = &[Door::Plain, Door::Plain, Door::Plain, Door::H2, Door::H2, Door::Tls];
/// In milliseconds; the slow ones are for requests that wait.
const QUIET: &[u64] = &[10, 20, 20, 30, 30, 50, 50, 100, 150, 300];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_makes_the_same_case_again() {
        let wallet = crate::wallet::tests::small();
        let site =
            || Site::new("x", "location / {\nlocation /a/ {", [([127, 0, 0, 1], 1).into(); 3]);
        let sites: Vec<_> = PLANS.iter().map(|_| vec![site()]).collect();
        let generator = Generator {
            seed: 7,
            wallet: &wallet,
            sites: sites.iter().map(Vec::as_slice).collect(),
        };
        for number in 0..500 {
            let text = generator.case(number).to_string();
            assert_eq!(text, generator.case(number).to_string());
            assert_ne!(text, generator.case(number + 1).to_string());
        }
    }
}
