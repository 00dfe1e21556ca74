//! `keystone_status`: the counters and the state of the module, as a response of nginx's.
//!
//! One worker reports for all, because their counters are in the zone. Access is restricted as for
//! any location, for example with `allow` and `deny`.

use std::ffi::CStr;

use keystone_gateway::status::{distinct, Area, Cache, Form, Report};
use keystone_zone::Occupancy;
use nginx_sys::{NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_NOT_ALLOWED};

use crate::request::Request;
use crate::worker::Worker;

/// Handler of the content phase: sends the report.
pub fn show(request: &Request) -> isize {
    if !matches!(request.method(), "GET" | "HEAD") {
        return NGX_HTTP_NOT_ALLOWED as isize;
    }
    let form = request.location().and_then(|location| location.status).unwrap_or_default();
    let form = form.unwrap_or_else(|| Form::accepted(&request.accept()));
    let worker = request.main().and_then(Worker::current);
    let report = report(worker.as_deref());
    match report.written(form) {
        Some(text) => request.send_page(form.content_type(), &text),
        None => NGX_HTTP_INTERNAL_SERVER_ERROR as isize,
    }
}

/// The report; where no location asks for tokens, of nothing but the program.
fn report(worker: Option<&Worker>) -> Report {
    let nginx: &CStr = nginx_sys::NGINX_VERSION;
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        nginx: nginx.to_string_lossy().into_owned(),
        ..Report::default()
    };
    let Some(worker) = worker else { return report };
    let zone = &worker.zone;
    let areas = zone.cache().occupancy().map(|(name, occupancy)| area(name, &occupancy));
    let (rows, validations) = (zone.rows(), zone.validations());
    report.cache =
        Some(Cache { zone_bytes: zone.size() as u64, areas: areas.into(), ..Cache::default() });
    report.add_worker_counts(|at| rows.sum(at));
    report.add_validations(|at| validations.read(at));
    let services = worker.services();
    let names = distinct(services.iter().map(|service| service.service().name()));
    report.services =
        services.iter().zip(names).map(|(service, name)| service.status(name)).collect();
    report
}

fn area(area: &'static str, occupancy: &Occupancy) -> Area {
    Area {
        area,
        entries: occupancy.entries as u64,
        capacity: occupancy.capacity as u64,
        used_bytes: occupancy.used_bytes as u64,
        size_bytes: occupancy.size_bytes as u64,
        evictions: occupancy.evictions,
    }
}
