//! What `COPY`, `MOVE` and `DELETE` of ngx_http_dav_module use besides the path of the request: the
//! path in `Destination`, and all that is in a directory.
//!
//! nginx serves these methods in the location of the request, and asks no access module about the
//! other paths. So they must be paths whose requests would be judged as this one is: those for which
//! nginx finds the same location. nginx has no function that tells; the search here is as
//! `ngx_http_core_find_location()`, and gives up where regular expressions take part.

use std::cmp::Ordering;
use std::ptr::{self, NonNull};
use std::{iter, slice};

use keystone_gateway::destination::destination_path;
use nginx_sys::{ngx_http_core_loc_conf_t, ngx_http_location_tree_node_t};
use ngx::http::{HttpModule, HttpModuleLocationConf, HttpModuleServerConf, NgxHttpCoreModule};

use crate::conf::location::LocationConf;
use crate::request::Request;
use crate::swift::is_container_deleted;
use crate::HttpKeystoneModule;

/// A path that nginx itself would use, and that is not known to belong to the location.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Elsewhere {
    #[error("Destination is not known to be in the same location")]
    Destination,
    #[error("the directory is not known to be in the same location as a whole")]
    Directory,
}

/// An error if ngx_http_dav_module would use a path that is not known to belong to this location.
pub fn check(request: &Request, location: &LocationConf) -> Result<(), Elsewhere> {
    let is_copy_or_move = request.is_copy_or_move();
    if !is_copy_or_move && !request.is_delete() || !request.is_served_by_dav() {
        return Ok(());
    }
    let is_tree = request.path().ends_with(b"/");
    // Where slashes are not merged, no location is found for what a path with two means.
    let is_plain = !request.path().windows(2).any(|pair| pair == b"//");
    if is_tree && !(is_plain && has_directory(request, location)) {
        return Err(Elsewhere::Directory);
    }
    let mut values = request.headers().filter(|(name, _)| is_destination(name));
    let Some((_, value)) = values.next().filter(|_| is_copy_or_move) else {
        // There is none, or nginx refuses the request.
        return Ok(());
    };
    let path = destination_path(value).filter(|_| values.next().is_none());
    let Some(path) = path else { return Err(Elsewhere::Destination) };
    // nginx writes to the path without its slash, and removes first what is there.
    let bare = path.strip_suffix(b"/").filter(|bare| !bare.is_empty()).unwrap_or(&path);
    let is_here = find(request, bare).is_some_and(|found| ptr::eq(found, location))
        && (!is_tree || is_whole(request, location, &path));
    is_here.then_some(()).ok_or(Elsewhere::Destination)
}

/// The same where the request may be in another location now than in this one, which has judged it.
pub fn check_redirected(request: &Request, judged: &LocationConf) -> Result<(), Elsewhere> {
    let has_owners = judged.swift().is_some();
    if has_owners && request.is_copy_or_move() && request.is_served_by_dav() {
        return Err(Elsewhere::Destination);
    }
    check(request, judged)
}

/// Whether the location has all that is in the directory of the request.
fn has_directory(request: &Request, location: &LocationConf) -> bool {
    match location.swift() {
        // Deleted only if it is empty.
        _ if request.is_delete() && deletes_container(request) => true,
        // Accounts are mostly served by locations with regular expressions, which all authorise them.
        Some(_) if request.is_delete() && is_regex(request, location) => {
            !has_inner(request, location, request.path())
        }
        _ => is_whole(request, location, request.path()),
    }
}

/// Whether the module itself deletes the container that the request is for.
fn deletes_container(request: &Request) -> bool {
    request.location().is_some_and(|here| is_container_deleted(request, here))
}

fn is_destination(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"Destination")
}

/// Whether all paths in a directory are known to belong to this location.
fn is_whole(request: &Request, location: &LocationConf, path: &[u8]) -> bool {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    // A name that no location has stands for all that no location is made for.
    let unnamed = [path, b"/\xff"].concat();
    find(request, &unnamed).is_some_and(|found| ptr::eq(found, location))
        && !has_inner(request, location, path)
}

/// Whether a path in a directory has a location of its own, not counting regular expressions.
fn has_inner(request: &Request, location: &LocationConf, path: &[u8]) -> bool {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let inside = [path, b"/"].concat();
    let is_here = |inner| conf_of(request, inner).is_some_and(|it| ptr::eq(it, location));
    let mut has_other = false;
    for level in levels(request, &[&inside, &b"\xff"[..]].concat()) {
        visit(tree(level), &mut Vec::new(), &mut |name, inner| {
            has_other |= name.starts_with(&inside) && !is_here(inner);
        });
    }
    has_other
}

/// The location that all others of the server are in, the one with a prefix in it that the path
/// belongs to, the one in that, and so on.
fn levels<'p>(
    request: &Request,
    path: &'p [u8],
) -> impl Iterator<Item = &'static ngx_http_core_loc_conf_t> + 'p {
    iter::successors(outer(request), move |level| match find_static(tree(level), path) {
        Some(Found::Prefix(inner)) => Some(inner),
        _ => None,
    })
}

/// The locations in this one that have no regular expression.
fn tree(
    level: &'static ngx_http_core_loc_conf_t,
) -> Option<&'static ngx_http_location_tree_node_t> {
    // SAFETY: null, or the tree, which lives as long as the configuration.
    unsafe { level.static_locations.as_ref() }
}

/// Calls `see` with each location of a tree and its name.
fn visit(
    node: Option<&'static ngx_http_location_tree_node_t>,
    name: &mut Vec<u8>,
    see: &mut impl FnMut(&[u8], &'static ngx_http_core_loc_conf_t),
) {
    let Some(node) = node else { return };
    let len = name.len();
    let Links { left, right, tree, exact, inclusive } = Links::of(node);
    visit(left, name, see);
    visit(right, name, see);
    name.extend(name_of(node));
    [exact, inclusive].into_iter().flatten().for_each(|location| see(name, location));
    visit(tree, name, see);
    name.truncate(len);
}

/// What applies to a request with this method for this path; `None` if that cannot be told.
fn find(request: &Request, path: &[u8]) -> Option<&'static LocationConf> {
    conf_of(request, find_location(outer(request)?, path)?)
}

/// The location that all others of the server are in.
fn outer(request: &Request) -> Option<&'static ngx_http_core_loc_conf_t> {
    let server = NgxHttpCoreModule::server_conf(request.get())?;
    // SAFETY: nginx keeps the context of a server, which lives as long as the configuration.
    NgxHttpCoreModule::location_conf(unsafe { &*server.ctx })
}

/// The module's configuration of a location for requests with this method.
fn conf_of(request: &Request, core: &ngx_http_core_loc_conf_t) -> Option<&'static LocationConf> {
    let is_limited = request.get().method & core.limit_except as usize != 0;
    let conf = if is_limited { core.limit_except_loc_conf } else { core.loc_conf };
    if conf.is_null() {
        return None;
    }
    // SAFETY: nginx keeps a configuration for each http module at its index.
    unsafe { (*conf.add(HttpKeystoneModule::module().ctx_index)).cast::<LocationConf>().as_ref() }
}

fn find_location(
    outer: &'static ngx_http_core_loc_conf_t,
    path: &[u8],
) -> Option<&'static ngx_http_core_loc_conf_t> {
    let mut level = outer;
    loop {
        match find_static(tree(level), path)? {
            Found::Exact(location) => return Some(location),
            Found::Prefix(location) if location.noregex() != 0 || !has_regex(level) => {
                level = location;
            }
            Found::Nothing if !has_regex(level) => return Some(level),
            Found::Prefix(_) | Found::Nothing => return None,
        }
    }
}

/// Whether this location, which the request is in, has a regular expression.
#[cfg(ngx_feature = "pcre")]
fn is_regex(request: &Request, location: &LocationConf) -> bool {
    let is_here = |inner| conf_of(request, inner).is_some_and(|it| ptr::eq(it, location));
    // One inside another is in none of the levels, and `limit_except` has no expression of its own.
    let own = request.core_location().filter(|core| !core.regex.is_null());
    own.is_some_and(is_here)
        || levels(request, request.path()).any(|level| {
            let Some(first) = NonNull::new(level.regex_locations) else { return false };
            // SAFETY: the array ends with null, and what it points to lives as long as the
            // configuration.
            (0..).map_while(|at| unsafe { (*first.add(at).as_ptr()).as_ref() }).any(is_here)
        })
}

#[cfg(not(ngx_feature = "pcre"))]
fn is_regex(_: &Request, _: &LocationConf) -> bool {
    false
}

#[cfg(ngx_feature = "pcre")]
fn has_regex(level: &ngx_http_core_loc_conf_t) -> bool {
    !level.regex_locations.is_null()
}

#[cfg(not(ngx_feature = "pcre"))]
fn has_regex(_: &ngx_http_core_loc_conf_t) -> bool {
    false
}

/// A location that a path belongs to by its beginning.
enum Found {
    Exact(&'static ngx_http_core_loc_conf_t),
    Nothing,
    Prefix(&'static ngx_http_core_loc_conf_t),
}

/// As `ngx_http_core_find_static_location()`; `None` for a path that nginx would redirect to the one
/// with a slash.
fn find_static(
    mut node: Option<&'static ngx_http_location_tree_node_t>,
    path: &[u8],
) -> Option<Found> {
    let (mut found, mut rest) = (Found::Nothing, path);
    while let Some(here) = node {
        let name = name_of(here);
        let Links { left, right, tree, exact, inclusive } = Links::of(here);
        let common = rest.len().min(name.len());
        node = match compare(&rest[..common], &name[..common]) {
            Ordering::Less => left,
            Ordering::Greater => right,
            Ordering::Equal if rest.len() > name.len() => match inclusive {
                Some(location) => {
                    (found, rest) = (Found::Prefix(location), &rest[common..]);
                    tree
                }
                None => right,
            },
            Ordering::Equal if rest.len() == name.len() => {
                let prefix = || inclusive.map(Found::Prefix);
                return exact.map(Found::Exact).or_else(prefix);
            }
            Ordering::Equal if rest.len() + 1 == name.len() && here.auto_redirect != 0 => {
                return None
            }
            Ordering::Equal => left,
        };
    }
    Some(found)
}

/// What a node of a tree of locations leads to.
struct Links {
    left: Option<&'static ngx_http_location_tree_node_t>,
    right: Option<&'static ngx_http_location_tree_node_t>,
    /// The nodes whose names begin with that of this one, without it.
    tree: Option<&'static ngx_http_location_tree_node_t>,
    exact: Option<&'static ngx_http_core_loc_conf_t>,
    inclusive: Option<&'static ngx_http_core_loc_conf_t>,
}

impl Links {
    fn of(node: &'static ngx_http_location_tree_node_t) -> Self {
        // SAFETY: each is null or lives as long as the configuration.
        unsafe {
            Self {
                left: node.left.as_ref(),
                right: node.right.as_ref(),
                tree: node.tree.as_ref(),
                exact: node.exact.as_ref(),
                inclusive: node.inclusive.as_ref(),
            }
        }
    }
}

fn name_of(node: &'static ngx_http_location_tree_node_t) -> &'static [u8] {
    // SAFETY: a node has its name behind it, of this length.
    unsafe { slice::from_raw_parts(node.name.as_ptr(), usize::from(node.len)) }
}

/// As `ngx_filename_cmp()`, by which nginx sorts the tree: the slash is the lowest character.
fn compare(one: &[u8], other: &[u8]) -> Ordering {
    let rank = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
    one.iter().map(rank).cmp(other.iter().map(rank))
}
