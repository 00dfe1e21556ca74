//! The text format of Prometheus, version 0.0.4.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use super::report::{Area, Cache, Lookups, Report, Service, SigningCertificate};

impl Report {
    /// The report in Prometheus' text format.
    pub(super) fn to_prometheus(&self) -> String {
        let mut text = Exposition::default();
        text.family(
            "keystone_build_info",
            "gauge",
            "Version of the module and of nginx.",
            [Sample::new([("version", self.version), ("nginx", &self.nginx)], 1)],
        );
        if let Some(cache) = &self.cache {
            self.write_requests(&mut text);
            cache.write_lookups(&mut text);
            cache.write_areas(&mut text);
        }
        self.write_validations(&mut text);
        let services = Services(&self.services);
        services.write_requests(&mut text);
        services.write_durations(&mut text);
        services.write_pending(&mut text);
        services.write_service_token(&mut text);
        services.write_revocation_list(&mut text);
        services.write_revocation_events(&mut text);
        services.write_certificates(&mut text);
        services.write_memcached(&mut text);
        text.0
    }

    fn write_requests(&self, text: &mut Exposition) {
        text.family(
            "keystone_requests_total",
            "counter",
            "Requests by authentication result.",
            self.requests.iter().map(|(word, count)| Sample::new([("result", *word)], *count)),
        );
    }

    fn write_validations(&self, text: &mut Exposition) {
        text.family(
            "keystone_token_validations_total",
            "counter",
            "Token validations that the cache did not answer.",
            self.validations.iter().map(|it| {
                let labels = [("format", it.format), ("path", it.path), ("result", it.result)];
                Sample::new(labels, it.count)
            }),
        );
    }
}

impl Cache {
    fn write_lookups(&self, text: &mut Exposition) {
        let looks = |level: &'static str, looks: &Lookups| {
            let Lookups { expired, hit, miss } = *looks;
            [("expired", expired), ("hit", hit), ("miss", miss)]
                .map(|(status, count)| Sample::new([("level", level), ("status", status)], count))
        };
        text.family(
            "keystone_cache_lookups_total",
            "counter",
            "Token cache lookups.",
            // An expired entry of the worker counts as a miss: the zone is looked up then.
            looks("worker", &self.worker).into_iter().skip(1).chain(looks("zone", &self.zone)),
        );
    }

    /// The areas, and the zone that holds them.
    fn write_areas(&self, text: &mut Exposition) {
        let mut areas = |name: &str, kind, help: &str, value: fn(&Area) -> u64| {
            let sample = |area: &'_ Area| Sample::new([("area", area.area)], value(area));
            text.family(name, kind, help, self.areas.iter().map(sample));
        };
        areas(
            "keystone_cache_evictions_total",
            "counter",
            "Token cache entries evicted before they expired.",
            |area| area.evictions,
        );
        areas(
            "keystone_cache_entries",
            "gauge",
            "Token cache entries, including expired ones.",
            |area| area.entries,
        );
        areas(
            "keystone_cache_capacity_entries",
            "gauge",
            "Maximum number of token cache entries.",
            |area| area.capacity,
        );
        areas("keystone_cache_used_bytes", "gauge", "Bytes used by token cache entries.", |area| {
            area.used_bytes
        });
        areas("keystone_cache_size_bytes", "gauge", "Size of the token cache in bytes.", |area| {
            area.size_bytes
        });
        text.family(
            "keystone_zone_size_bytes",
            "gauge",
            "Size of the shared memory zone in bytes.",
            [Sample::new([], self.zone_bytes)],
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

    fn gauge(
        &self,
        text: &mut Exposition,
        name: &str,
        help: &str,
        value: fn(&Service) -> Option<f64>,
    ) {
        self.each(text, (name, "gauge", help), value);
    }

    fn write_requests(&self, text: &mut Exposition) {
        text.family(
            "keystone_identity_requests_total",
            "counter",
            "Requests to the identity service.",
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
    }

    fn write_durations(&self, text: &mut Exposition) {
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
            "Duration of requests to the identity service in seconds.",
            samples,
        );
    }

    /// What keeps requests waiting, and how many were turned away for it.
    fn write_pending(&self, text: &mut Exposition) {
        let retries = "Retries of requests to the identity service.";
        self.each(text, ("keystone_identity_retries_total", "counter", retries), |service| {
            Some(service.retries)
        });
        let pending = "Pending validations, and requests that wait for certificates or the \
                       revocation list.";
        self.each(text, ("keystone_identity_pending", "gauge", pending), |service| {
            Some(service.pending)
        });
        text.family(
            "keystone_identity_limited_total",
            "counter",
            "Requests rejected because too many validations were pending, or too many requests \
             waited for certificates or the revocation list.",
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
    }

    fn write_service_token(&self, text: &mut Exposition) {
        let token = "Expiry of the service token in unix time.";
        self.each(
            text,
            ("keystone_service_token_expires_timestamp_seconds", "gauge", token),
            |service| service.service_token.map(|token| token.expires_at),
        );
    }

    fn write_revocation_list(&self, text: &mut Exposition) {
        text.family(
            "keystone_revocation_list_refreshes_total",
            "counter",
            "Refreshes of certificates and revocation list.",
            self.0.iter().flat_map(|service| {
                let list = &service.revocation_list;
                [("failed", list.refreshes_failed), ("ok", list.refreshes_ok)].map(|(result, n)| {
                    Sample::new([("service", service.service.as_str()), ("result", result)], n)
                })
            }),
        );
        self.gauge(
            text,
            "keystone_revocation_list_refresh_failing",
            "Whether the last refresh failed.",
            |service| Some(f64::from(u8::from(service.revocation_list.failing))),
        );
        self.gauge(
            text,
            "keystone_revocation_list_entries",
            "Entries in the revocation list.",
            |service| service.revocation_list.entries.map(|entries| entries as f64),
        );
        self.gauge(
            text,
            "keystone_revocation_list_generation",
            "Generation of certificates and revocation list.",
            |service| Some(service.revocation_list.generation as f64),
        );
        self.gauge(
            text,
            "keystone_revocation_list_age_seconds",
            "Age of the revocation list in seconds.",
            |service| service.revocation_list.age_seconds,
        );
        self.gauge(
            text,
            "keystone_revocation_list_cache_time_seconds",
            "Configured cache time of the revocation list in seconds.",
            |service| Some(service.revocation_list.cache_time_seconds),
        );
        self.gauge(
            text,
            "keystone_revocation_list_in_use",
            "Whether tokens that are checked against the revocation list were seen recently.",
            |service| Some(f64::from(u8::from(service.revocation_list.in_use))),
        );
    }

    fn write_revocation_events(&self, text: &mut Exposition) {
        self.gauge(
            text,
            "keystone_revocation_events_entries",
            "Known revocation events.",
            |service| service.revocation_events?.entries.map(|entries| entries as f64),
        );
        self.gauge(
            text,
            "keystone_revocation_events_generation",
            "Generation of the revocation events.",
            |service| service.revocation_events.map(|events| events.generation as f64),
        );
        self.gauge(
            text,
            "keystone_revocation_events_age_seconds",
            "Age of the revocation events in seconds.",
            |service| service.revocation_events?.age_seconds,
        );
        self.gauge(
            text,
            "keystone_revocation_events_interval_seconds",
            "Configured fetch interval of revocation events in seconds.",
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
            "End of validity of a signing certificate and its CA in unix time.",
            |it| it.not_after,
        );
        each(
            "keystone_signing_certificate_not_before_timestamp_seconds",
            "Start of validity of a signing certificate and its CA in unix time.",
            |it| it.not_before,
        );
    }

    fn write_memcached(&self, text: &mut Exposition) {
        text.family(
            "keystone_memcached_requests_total",
            "counter",
            "Requests to memcached servers.",
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
