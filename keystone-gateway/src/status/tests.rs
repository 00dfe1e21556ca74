use std::collections::{BTreeMap, HashSet};

use super::cells::*;
use super::*;
use keystone_token::api::Kind;
use keystone_token::format::TokenFormat;
use keystone_token::result::AuthResult;

#[test]
fn an_unknown_status_is_counted_as_another() {
    assert_eq!(status(0, Kind::Token, "418"), status(0, Kind::Token, OTHER));
    assert_ne!(status(0, Kind::Token, "404"), status(0, Kind::Token, OTHER));
}

#[test]
fn each_thing_has_a_cell_of_its_own() {
    let mut cells: Vec<usize> = AuthResult::ALL.map(result).to_vec();
    let looks = [
        CacheLookup::WorkerHit,
        CacheLookup::ZoneExpired,
        CacheLookup::ZoneHit,
        CacheLookup::ZoneMiss,
    ];
    cells.extend(looks.map(cache_lookup));
    assert_all(cells, WORKER);

    let mut cells = Vec::new();
    for (at, format) in TokenFormat::ALL.into_iter().enumerate() {
        assert_eq!(format as usize, at);
        for path in Path::ALL {
            cells.extend(AuthResult::ALL.map(|result| validation(format, path, result)));
        }
    }
    assert_all(cells, VALIDATIONS);

    let mut cells = HashSet::new();
    for endpoint in 0..ENDPOINTS {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, at);
            cells.extend(STATUSES.map(|word| status(endpoint, kind, word)));
            let bounds = BOUNDS.into_iter().chain([u64::MAX]);
            cells.extend(bounds.flat_map(|micros| duration(endpoint, kind, micros)));
        }
    }
    assert_all(cells, EXCHANGES);

    let servers =
        (0..SERVERS).flat_map(|server| MemcachedOp::ALL.map(|asked| memcached(server, asked)));
    assert_all(servers, MEMCACHED_CELLS);
}

fn assert_all(cells: impl IntoIterator<Item = usize>, count: usize) {
    let mut cells: Vec<usize> = cells.into_iter().collect();
    cells.sort_unstable();
    assert_eq!(cells, (0..count).collect::<Vec<_>>());
}

#[test]
fn more_endpoints_than_cells_share_the_last() {
    assert_eq!(status(9, Kind::Token, "200"), status(ENDPOINTS - 1, Kind::Token, "200"));
    let names: Vec<String> = (0..6).map(|number| format!("http://{number}")).collect();
    let named: Vec<_> = cells::named(&names, 4).collect();
    assert_eq!(named, [(0, "http://0"), (1, "http://1"), (2, "http://2"), (3, OTHER)]);
    assert!(cells::named(&names[..4], 4).all(|(_, name)| name != OTHER));
}

#[test]
fn a_duration_lies_in_the_first_bucket_that_holds_it() {
    let bucket = |micros| duration(0, Kind::Certificates, micros)[0] - STATUSES.len();
    assert_eq!([0, 1_000, 1_001, 2_500, 10_000_000].map(bucket), [0, 0, 1, 1, 12]);
    assert_eq!([10_000_001, u64::MAX].map(bucket), [13, 13]);
}

#[test]
fn services_with_the_same_uri_are_distinguished() {
    assert_eq!(distinct(["a", "b", "a", "a"]), ["a", "b", "a (2)", "a (3)"]);
}

#[test]
fn the_form_goes_by_what_the_reader_prefers() {
    let scraper = "application/openmetrics-text;version=1.0.0;q=0.5,\
                   application/openmetrics-text;version=0.0.1;q=0.4,\
                   text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for accept in [scraper, "text/plain", "TEXT/plain; version=0.0.4", "text/*, */*;q=0.1"] {
        assert_eq!(Form::accepted(accept), Form::Prometheus, "{accept}");
    }
    for accept in ["text/plain;q=0.5, application/json;q=0.4", "application/json;q=0, text/plain"] {
        assert_eq!(Form::accepted(accept), Form::Prometheus, "{accept}");
    }
    for accept in [browser, "", "*/*", "application/json", "image/png", "text", "text/plain;q=0"] {
        assert_eq!(Form::accepted(accept), Form::Json, "{accept}");
    }
    for accept in
        ["text/plain, application/json", "text/plain;q=x, */*;q=0.1", "text/plain;q=0,*/*"]
    {
        assert_eq!(Form::accepted(accept), Form::Json, "{accept}");
    }
}

/// A report in which each cell holds its own number and one more.
fn full() -> Report {
    let count = |at: usize| at as u64 + 1;
    let mut report = Report { version: "1.2.3", nginx: "1.28.3".into(), ..Report::default() };
    report.add_worker_counts(count);
    report.add_validations(count);
    let mut service = Service { service: "http://a:5000".into(), ..Service::default() };
    service.add_exchanges(&["http://a:5000".into(), "http://b:5000".into()], count);
    service.add_memcached(&["127.0.0.1:11211".into()], count);
    service.signing_certificates = vec![odd_certificate(), odd_certificate()];
    report.services = vec![service];
    report
}

fn odd_certificate() -> SigningCertificate {
    SigningCertificate {
        subject: "CN=a \"quoted\" \\ name\nof two lines".into(),
        serial: "0a".into(),
        not_before: 1,
        not_after: 100,
        seconds_left: 90,
    }
}

#[test]
fn labels_are_escaped_and_no_series_comes_twice() {
    let text = full().to_prometheus();
    let line =
        "keystone_signing_certificate_not_after_timestamp_seconds{service=\"http://a:5000\",\
                subject=\"CN=a \\\"quoted\\\" \\\\ name\\nof two lines\",serial=\"0a\"} 100";
    assert_eq!(text.lines().filter(|known| *known == line).count(), 1, "{text}");
    let mut series = HashSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        assert!(series.insert(name), "{name}");
    }
}

#[test]
fn buckets_are_cumulative_and_end_with_the_count() {
    let report = full();
    let durations = &report.services[0].durations;
    assert_eq!(durations.len(), 2 * Kind::ALL.len());
    for it in durations {
        assert!(it.buckets.is_sorted_by_key(|bucket| bucket.count), "{it:?}");
        assert_eq!(it.buckets.len(), BOUNDS.len() + 1);
        assert_eq!(*it.buckets.last().unwrap(), Bucket { le: None, count: it.count });
    }
    let text = report.to_prometheus();
    let of = "keystone_identity_request_duration_seconds_bucket{service=\"http://a:5000\",\
              endpoint=\"http://b:5000\",request=\"versions\",le=\"+Inf\"}";
    let count = durations.last().unwrap().count;
    assert!(text.contains(&format!("{of} {count}\n")), "{text}");
}

#[test]
fn both_forms_tell_the_same() {
    let report = full();
    let json: serde_json::Value =
        serde_json::from_str(&report.written(Form::Json).unwrap()).unwrap();
    let text = report.written(Form::Prometheus).unwrap();
    let of_text: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("keystone_requests_total{result=\"")?.split_once("\"} ")
        })
        .collect();
    let of_json = json["requests"].as_object().unwrap();
    assert_eq!(of_text.len(), of_json.len());
    for (word, count) in of_text {
        assert_eq!(of_json[word].as_u64(), count.parse().ok(), "{word}");
    }
    let worker = &json["cache"]["worker"];
    let zone = &json["cache"]["zone"];
    let missed: u64 = ["expired", "hit", "miss"].map(|it| zone[it].as_u64().unwrap()).iter().sum();
    assert_eq!(worker["miss"], missed);
    assert!(text.contains(&format!("{{level=\"worker\",status=\"miss\"}} {missed}\n")), "{text}");
}

#[test]
fn an_empty_report_is_a_valid_one() {
    let report = Report { version: "1.2.3", nginx: "1.28.3".into(), ..Report::default() };
    let text = report.to_prometheus();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(
        text.ends_with("keystone_build_info{version=\"1.2.3\",nginx=\"1.28.3\"} 1\n"),
        "{text}"
    );
}
