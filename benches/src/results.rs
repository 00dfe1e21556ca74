//! The figures and plots that are made of what was measured.

use std::path::Path;
use std::time::Duration;

use crate::auth_token::{Peer, Peers};
use crate::figure::{Figure, Figures, Target};
use crate::measured::Measured;
use crate::micro::{Parts, INFLATE};
use crate::online::Questions;
use crate::plot::Plot;
use crate::report::{median, thousands, Table};
use crate::row::LISTS;
use crate::zone::Growth;
use crate::Failure;

/// All that was measured.
pub struct Measurements {
    /// The lines of the table.
    pub requests: Table,
    /// The parts of a token's way, without nginx.
    pub parts: Parts,
    /// Validations online, and how long others wait.
    pub questions: Questions,
    /// auth_token, if it is there.
    pub peers: Option<Peers>,
    /// One `openssl cms -verify`.
    pub processes: Vec<Duration>,
    /// Look-ups in zones of several sizes.
    pub growth: Vec<Growth>,
    /// Per cent of look-ups that missed what is there.
    pub missed: Vec<f64>,
}

impl Measurements {
    /// The tables.
    pub fn figures(&self, about: Vec<String>) -> Figures {
        let new_token = median(self.requests.on_top("pki/new", "pki/open").into_iter());
        let mut figures = Figures::new(about);
        figures.add(
            "A cached token, times the unprotected request with the same header",
            self.cached(),
        );
        figures.add("A new token", self.verified());
        figures.add("Two workers on two processors", self.pair());
        figures.add("The zone alone", self.zone());
        figures.add("Revocation lists", self.lists());
        figures.add("Questions, and how long others wait", self.questions.figures(new_token));
        if let Some(peers) = &self.peers {
            let all = peers.peers().iter().flat_map(compare).collect();
            figures
                .add("auth_token behind auth_request, with uWSGI (2 processes) and memcached", all);
        }
        figures.add("The parts of a new PKI token, without nginx", self.parts.figures());
        figures
    }

    fn ratio(&self, name: &str, key: &str, against: &str) -> Figure {
        Figure::new(name, "", self.requests.ratio(key, against))
    }

    fn cached(&self) -> Vec<Figure> {
        let of = |name, key, against| self.ratio(name, key, against);
        let wide = |kind: &str, count: usize| {
            let open = if count < 10_000 { "open" } else { "open-10000" };
            let name = format!("{kind} token, one of {} at random", thousands(count as f64));
            let (key, open) = (kind.to_lowercase(), format!("wide/{}-{open}", kind.to_lowercase()));
            self.ratio(&name, &format!("wide/{key}-{count}"), &open)
        };
        let mut figures = vec![
            of("PKI token, the same each time", "pki/cached", "pki/open")
                .target(Target::AtMost(1.04)),
            wide("PKI", 10),
            wide("PKI", 100),
            wide("PKI", 1_000),
            wide("PKI", 10_000).target(Target::AtMost(1.12)),
            of("Fernet token, the same each time", "fernet/cached", "fernet/open")
                .target(Target::AtMost(1.04)),
        ];
        figures.extend([10, 100, 1_000].map(|count| wide("Fernet", count)));
        figures.push(wide("Fernet", 10_000).target(Target::AtMost(1.10)));
        figures.push(wide("Fernet", 100_000));
        figures.extend([
            of("PKI token, keystone_headers off", "pki/bare", "pki/open"),
            of("PKI token, keystone_early on", "pki/early", "pki/open"),
            of("a PKI token that has expired (401)", "pki/expired", "pki/open"),
            of("PKI token, proxied", "proxy/cached", "proxy/open"),
            of("keystone_swift_auth, times the same without it", "swift/cached", "swift/open"),
        ]);
        figures
    }

    fn verified(&self) -> Vec<Figure> {
        let on_top = |key, against| self.requests.on_top(key, against);
        let (pki, pkiz) = (on_top("pki/new", "pki/open"), on_top("pkiz/new", "pkiz/open"));
        let bare = self.parts.median("its signature by a bare EVP_DigestVerify");
        let process = self.processes.iter().map(|time| time.as_secs_f64() * 1e6);
        let process: Vec<f64> = process.collect();
        let verified = median(pki.iter().copied());
        vec![
            Figure::new("PKI token, on top of the unprotected request", "µs", pki.clone()),
            Figure::new(
                "the same, in bare EVP_DigestVerify",
                "",
                pki.iter().map(|it| it / bare).collect(),
            )
            .target(Target::AtMost(1.5)),
            Figure::new("PKIZ token, on top of the unprotected request", "µs", pkiz.clone()),
            Figure::new(
                "the same less one inflate, in bare EVP_DigestVerify",
                "",
                pkiz.iter().map(|it| (it - self.parts.median(INFLATE)) / bare).collect(),
            )
            .target(Target::AtMost(1.5)),
            Figure::new(
                "Fernet token, on top of the unprotected request",
                "µs",
                on_top("fernet/new", "fernet/open"),
            ),
            Figure::new(
                "the question and its answer, as nginx's auth_request sends and receives them",
                "µs",
                on_top("fernet/asked", "fernet/open"),
            ),
            Figure::new("Fernet token, on top of that", "µs", on_top("fernet/new", "fernet/asked"))
                .target(Target::AtMost(12.0)),
            Figure::new("one process `openssl cms -verify`", "µs", process.clone()),
            Figure::new(
                "the same, in new PKI tokens",
                "",
                process.iter().map(|it| it / verified).collect(),
            ),
        ]
    }

    fn pair(&self) -> Vec<Figure> {
        let twice = |one, both| self.requests.ratio(one, both).iter().map(|it| 2.0 * it).collect();
        let figure = |name, one, both| Figure::new(name, "", twice(one, both));
        vec![
            figure("cached PKI token: requests for two processors' time, in those of one worker for one", "pki/cached", "pair/cached")
                .target(Target::AtLeast(1.9)),
            figure("the same, one of 1,000 tokens", "wide/pki-1000", "pair/1000"),
            figure("the same of the unprotected request, where the client takes time from a worker too", "pki/open", "pair/open"),
        ]
    }

    fn zone(&self) -> Vec<Figure> {
        let mut figures = vec![Figure::new(
            "8 processes, one operation in ten writes: look-ups that missed an entry",
            "%",
            self.missed.clone(),
        )
        .target(Target::Below(2.0))];
        for growth in &self.growth {
            let name =
                |what| format!("a hit with {} tokens, {what}", thousands(growth.tokens as f64));
            figures.push(Figure::new(name("1,000 of them in use"), "ns", growth.in_use.clone()));
            figures.push(Figure::new(name("all at random"), "ns", growth.at_random.clone()));
        }
        let request = median(self.requests.costs("pki/cached").into_iter()) * 1e3;
        if let [first, .., last] = &*self.growth {
            let share = |one: &[f64], other: &[f64]| {
                one.iter()
                    .zip(other)
                    .map(|(one, other)| (request + other - one) / request)
                    .collect()
            };
            figures.push(
                Figure::new(
                    "a cached request with 1,000,000 tokens, times one with 1,000: 1,000 in use",
                    "",
                    share(&first.in_use, &last.in_use),
                )
                .target(Target::AtMost(1.05)),
            );
            figures.push(
                Figure::new(
                    "the same, all at random",
                    "",
                    share(&first.at_random, &last.at_random),
                )
                .target(Target::AtMost(1.05)),
            );
        }
        figures
    }

    fn lists(&self) -> Vec<Figure> {
        let line = |kind: &str, what: &str, len: usize| {
            let (key, none) = (format!("list/{kind}-{len}"), format!("list/{kind}-0"));
            Figure::new(
                format!("{what}, {} entries, on top of an empty list", thousands(len as f64)),
                "µs",
                self.requests.on_top(&key, &none),
            )
        };
        let some = LISTS.iter().copied().filter(|len| *len > 0);
        let hits = some.clone().map(|len| line("hit", "a hit", len));
        hits.chain(some.map(|len| line("new", "a verification", len))).collect()
    }

    /// Writes the plots.
    pub fn plots(&self, dir: &Path) -> Result<(), Failure> {
        self.tokens().write(&dir.join("tokens.svg"))?;
        self.revocations().write(&dir.join("revocations.svg"))?;
        self.zones().write(&dir.join("zone.svg"))?;
        match &self.peers {
            Some(peers) => {
                rivals(peers).iter().try_for_each(|(name, plot)| plot.write(&dir.join(name)))
            }
            None => Ok(()),
        }
    }

    fn tokens(&self) -> Plot {
        let mut plot = Plot::new(
            "Worker CPU of a cached request, times the unprotected one",
            "tokens in turn, at random",
        );
        for (name, key, sizes) in [("PKI", "pki", &SIZES[..5]), ("Fernet", "fernet", &SIZES)] {
            let value = |count: usize| {
                let open = if count < 10_000 { "open" } else { "open-10000" };
                let ratio = self
                    .requests
                    .ratio(&format!("wide/{key}-{count}"), &format!("wide/{key}-{open}"));
                (count as f64, median(ratio.into_iter()))
            };
            plot.line(name, sizes.iter().map(|count| value(*count)).collect());
        }
        plot
    }

    fn revocations(&self) -> Plot {
        let mut plot = Plot::new(
            "Worker CPU of a request with a PKI token, µs",
            "entries of the revocation list",
        );
        for (name, kind) in [("new token", "new"), ("cached token", "hit")] {
            let value = |len: usize| {
                (len as f64, median(self.requests.costs(&format!("list/{kind}-{len}")).into_iter()))
            };
            plot.line(name, LISTS.iter().map(|len| value(*len)).collect());
        }
        plot
    }

    fn zones(&self) -> Plot {
        let mut plot = Plot::new("A hit in the zone alone, ns", "tokens in the zone");
        let line = |of: fn(&Growth) -> &Vec<f64>| {
            let point = |it: &Growth| (it.tokens as f64, median(of(it).iter().copied()));
            self.growth.iter().map(point).collect()
        };
        plot.line("1,000 in use", line(|it| &it.in_use));
        plot.line("all at random", line(|it| &it.at_random));
        plot
    }
}

fn rates(measured: &[Measured]) -> Vec<f64> {
    measured.iter().map(Measured::rate).collect()
}

fn costs(measured: &[Measured]) -> Vec<f64> {
    measured.iter().map(Measured::cost).collect()
}

/// A release of auth_token and the module.
fn compare(peer: &Peer) -> Vec<Figure> {
    let is_old = peer.name.ends_with("4.9.1");
    let times = |what: &str, module: &[Measured], other: &[Measured], target: f64| {
        let pairs = module.iter().zip(other);
        let times = pairs.map(|(module, other)| module.rate() / other.rate()).collect();
        let figure = Figure::new(
            format!("{what}: requests of the module, times those of {}", peer.name),
            "",
            times,
        );
        if is_old {
            figure.target(Target::AtLeast(target))
        } else {
            figure
        }
    };
    let rate = |what: &str, measured: &[Measured]| {
        Figure::new(format!("{}, {what}", peer.name), "/s", rates(measured))
    };
    let cost = |what: &str, measured: &[Measured]| {
        Figure::new(
            format!("{}, {what}: CPU of a request, all processes", peer.name),
            "µs",
            costs(measured),
        )
    };
    vec![
        rate("cached token", &peer.cached),
        cost("cached token", &peer.cached),
        times("cached token", &peer.module_cached, &peer.cached, 20.0),
        rate("new token", &peer.new),
        cost("new token", &peer.new),
        times("new token", &peer.module_new, &peer.new, 60.0),
    ]
}

/// Throughput and processor time beside auth_token.
fn rivals(peers: &Peers) -> [(&'static str, Plot); 2] {
    let mut throughput = Plot::new("Requests a second on two processors, with their client", "");
    let mut cost =
        Plot::new("CPU of a request in all processes but the client and Keystone, µs", "");
    for peer in peers.peers() {
        let token = if peer.name.ends_with("4.9.1") { "PKI" } else { "Fernet" };
        for (who, what, measured) in [
            ("the module", "cached", &peer.module_cached),
            (peer.name, "cached", &peer.cached),
            ("the module", "new", &peer.module_new),
            (peer.name, "new", &peer.new),
        ] {
            let name = format!("{what} {token} token, {who}");
            throughput.bar(name.clone(), median(rates(measured).into_iter()));
            cost.bar(name, median(costs(measured).into_iter()));
        }
    }
    [("peers-throughput.svg", throughput), ("peers-cpu.svg", cost)]
}

const SIZES: [usize; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
