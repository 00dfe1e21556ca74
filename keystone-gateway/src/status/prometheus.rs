//! The text format of Prometheus, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use super::report::{Area, Lookups, Report, Service, SigningCertificate};

impl Report {
    /// The report in Prometheus' text format.
    pub(super) fn to_prometheus(&self) -> String {
        let mut text = Exposition::default();
        text.family(
            "keystone_build_info",
            "gauge",
            "The module and the nginx it is part of.",
            [Sample::new([("version", self.version), ("nginx", &self.nginx)], 1)],
        );
        self.write_cache(&mut text);
        self.write_validations(&mut text);
        let services = Services(&self.services);
        services.write_exchanges(&mut text);
        services.write_revocations(&mut text);
        services.write_certificates(&mut text);
        services.write_memcached(&mut text);
        text.0
    }

    fn write_cache(&self, text: &mut Exposition) {
        let Some(cache) = &self.cache else { return };
        text.family(
            "keystone_requests_total",
            "counter",
            "Requests that have ended, by $keystone_auth_result.",
            self.requests.iter().map(|(word, count)| Sample::new([("result", *word)], *count)),
        );
        let looks = |level: &'static str, looks: &Lookups| {
            let Lookups { expired, hit, miss } = *looks;
            [("expired", expired), ("hit", hit), ("miss", miss)]
                .map(|(status, count)| Sample::new([("level", level), ("status", status)], count))
        };
        text.family(
            "keystone_cache_lookups_total",
            "counter",
            "Looks of a request into the cache of its worker, and then into that of the zone.",
            // Nothing of the former is told to be over: it is looked up in the zone then.
            looks("worker", &cache.worker).into_iter().skip(1).chain(looks("zone", &cache.zone)),
        );
        let mut areas = |name: &str, kind, help: &str, value: fn(&Area) -> u64| {
            let sample = |area: &'_ Area| Sample::new([("area", area.area)], value(area));
            text.family(name, kind, help, cache.areas.iter().map(sample));
        };
        areas(
            "keystone_cache_evictions_total",
            "counter",
            "Entries that made room for others before their time was over.",
            |area| area.evictions,
        );
        areas(
            "keystone_cache_entries",
            "gauge",
            "Entries in the zone, also those whose time is over.",
            |area| area.entries,
        );
        areas("keystone_cache_capacity_entries", "gauge", "Entries that have room.", |area| {
            area.capacity
        });
        areas("keystone_cache_used_bytes", "gauge", "What the entries take.", |area| {
            area.used_bytes
        });
        areas("keystone_cache_size_bytes", "gauge", "What there is for entries.", |area| {
            area.size_bytes
        });
        text.family(
            "keystone_zone_size_bytes",
            "gauge",
            "The size of the shared memory zone.",
            [Sample::new([], cache.zone_bytes)],
        );
    }

    fn write_validations(&self, text: &mut Exposition) {
        text.family(
            "keystone_token_validations_total",
            "counter",
            "Tokens that were validated, not found in the cache.",
            self.validations.iter().map(|it| {
                let labels = [("format", it.format), ("path", it.path), ("result", it.result)];
                Sample::new(labels, it.count)
            }),
        );
    }
}

/// All identity services: a family holds the samples of each.
struct Services<'r>(&'r [Service]);

impl<'r> Services<'r> {
    /// A family with a sample of each service that has such a value.
    fn each<V: Display>(
        &self,
        text: &mut Exposition,
        (name, kind, help): (&str, &'static str, &str),
        value: impl Fn(&'r Service) -> Option<V>,
    ) {
        let samples = self.0.iter().filter_map(|service| {
            Some(Sample::new([("service", service.service.as_str())], value(service)?))
        });
        text.family(name, kind, help, samples);
    }

    fn write_exchanges(&self, text: &mut Exposition) {
        text.family(
            "keystone_identity_requests_total",
            "counter",
            "Requests to the identity service, by its answer.",
            self.0.iter().flat_map(|service| {
                service.exchanges.iter().map(|it| {
                    let labels = [
                        ("service", service.service.as_str()),
                        ("endpoint", &it.endpoint),
                        ("request", it.request),
                        ("status", it.status),
                    ];
                    Sample::new(labels, it.count)
                })
            }),
        );
        let mut samples = Vec::new();
        for service in self.0 {
            for it in &service.durations {
                let labels = [
                    ("service", service.service.as_str()),
                    ("endpoint", &it.endpoint),
                    ("request", it.request),
                ];
                for bucket in &it.buckets {
                    let le = bucket.le.map_or("+Inf".to_owned(), |le| le.to_string());
                    let labels = labels.into_iter().chain([("le", le.as_str())]);
                    samples.push(Sample::new(labels, bucket.count).suffix("_bucket"));
                }
                samples.push(Sample::new(labels, it.sum_seconds).suffix("_sum"));
                samples.push(Sample::new(labels, it.count).suffix("_count"));
            }
        }
        text.family(
            "keystone_identity_request_duration_seconds",
            "histogram",
            "How long these requests took.",
            samples,
        );
        let retries = "Tries to ask the identity service after one that failed.";
        self.each(text, ("keystone_identity_retries_total", "counter", retries), |service| {
            Some(service.retries)
        });
        let pending = "Questions without an answer yet, and requests that wait for certificates \
                       or the revocation list.";
        self.each(text, ("keystone_identity_pending", "gauge", pending), |service| {
            Some(service.pending)
        });
        text.family(
            "keystone_identity_limited_total",
            "counter",
            "Requests refused because too many validations were under way, by the limit.",
            self.0.iter().flat_map(|service| {
                let limited = &service.limited;
                [
                    ("max_pending", limited.max_pending),
                    ("max_pending_per_address", limited.max_pending_per_address),
                ]
                .map(|(limit, n)| {
                    Sample::new([("service", service.service.as_str()), ("limit", limit)], n)
                })
            }),
        );
        let token = "When the service token ends.";
        self.each(
            text,
            ("keystone_service_token_expires_timestamp_seconds", "gauge", token),
            |service| service.service_token.map(|token| token.expires_at),
        );
    }

    fn write_revocations(&self, text: &mut Exposition) {
        text.family(
            "keystone_revocation_list_refreshes_total",
            "counter",
            "Fetches of certificates and revocation list.",
            self.0.iter().flat_map(|service| {
                let list = &service.revocation_list;
                [("failed", list.refreshes_failed), ("ok", list.refreshes_ok)].map(|(result, n)| {
                    Sample::new([("service", service.service.as_str()), ("result", result)], n)
                })
            }),
        );
        let mut gauge = |name, help, value: fn(&Service) -> Option<f64>| {
            self.each(text, (name, "gauge", help), value);
        };
        gauge(
            "keystone_revocation_list_refresh_failing",
            "Whether the last of them failed.",
            |service| Some(f64::from(u8::from(service.revocation_list.failing))),
        );
        gauge("keystone_revocation_list_entries", "Entries of the revocation list.", |service| {
            service.revocation_list.entries.map(|entries| entries as f64)
        });
        gauge(
            "keystone_revocation_list_generation",
            "Counts up with every change of list or certificates.",
            |service| Some(service.revocation_list.generation as f64),
        );
        gauge(
            "keystone_revocation_list_age_seconds",
            "How long ago the identity service was asked for the list.",
            |service| service.revocation_list.age_seconds,
        );
        gauge("keystone_revocation_list_cache_time_seconds", "How old it may be.", |service| {
            Some(service.revocation_list.cache_time_seconds)
        });
        gauge(
            "keystone_revocation_list_in_use",
            "Whether signed tokens have come lately: otherwise the list is not kept fresh.",
            |service| Some(f64::from(u8::from(service.revocation_list.in_use))),
        );
        gauge("keystone_revocation_events_entries", "Revocation events.", |service| {
            service.revocation_events?.entries.map(|entries| entries as f64)
        });
        gauge(
            "keystone_revocation_events_generation",
            "Counts up with every change of them.",
            |service| service.revocation_events.map(|events| events.generation as f64),
        );
        gauge("keystone_revocation_events_age_seconds", "How long ago they were had.", |service| {
            service.revocation_events?.age_seconds
        });
        gauge(
            "keystone_revocation_events_interval_seconds",
            "How often they are asked for.",
            |service| service.revocation_events.map(|events| events.interval_seconds),
        );
    }

    fn write_certificates(&self, text: &mut Exposition) {
        let mut each = |name, help, value: fn(&SigningCertificate) -> i64| {
            let mut known = BTreeSet::new();
            let certificates = self.0.iter().flat_map(|service| {
                service.signing_certificates.iter().map(|it| (service.service.as_str(), it))
            });
            // A file may hold one twice.
            let once = certificates
                .filter(|(service, it)| known.insert((*service, &it.subject, &it.serial)));
            let samples = once.map(|(service, it)| {
                let labels =
                    [("service", service), ("subject", &it.subject), ("serial", &it.serial)];
                Sample::new(labels, value(it))
            });
            text.family(name, "gauge", help, samples);
        };
        each(
            "keystone_signing_certificate_not_after_timestamp_seconds",
            "When a signing certificate, or its CA's, ends.",
            |it| it.not_after,
        );
        each(
            "keystone_signing_certificate_not_before_timestamp_seconds",
            "From when on both are valid.",
            |it| it.not_before,
        );
    }

    fn write_memcached(&self, text: &mut Exposition) {
        text.family(
            "keystone_memcached_requests_total",
            "counter",
            "Questions to memcached.",
            self.0.iter().flat_map(|service| {
                service.memcached.iter().map(|it| {
                    let labels = [
                        ("service", service.service.as_str()),
                        ("server", &it.server),
                        ("operation", it.operation),
                        ("result", it.result),
                    ];
                    Sample::new(labels, it.count)
                })
            }),
        );
    }
}

/// A line, without the name of its family.
struct Sample {
    suffix: &'static str,
    labels: String,
    value: String,
}

impl Sample {
    fn new<'l>(
        labels: impl IntoIterator<Item = (&'static str, &'l str)>,
        value: impl Display,
    ) -> Self {
        let labels: Vec<String> = labels
            .into_iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        Self { suffix: "", labels, value: value.to_string() }
    }

    fn suffix(self, suffix: &'static str) -> Self {
        Self { suffix, ..self }
    }
}

#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// Writes a family, if it has samples.
    fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        samples: impl IntoIterator<Item = Sample>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for Sample { suffix, labels, value } in samples {
            let _ = writeln!(self.0, "{name}{suffix}{labels} {value}");
        }
    }
}

/// A label's value as it stands between quotes.
fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
