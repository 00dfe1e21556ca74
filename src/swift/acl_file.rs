//! The file of `keystone_swift_acl_file`: a container's ACLs, kept beside its objects.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use keystone_token::swift::{AclKind, ContainerAcls};
use nginx_sys::{ngx_http_complex_value_t, ngx_str_t};

use super::complain;
use super::open::open_cached;
use crate::request::Request;
use crate::string::bytes;

/// The text of the container's ACL; `None` where there is no file, or it does not say.
///
/// A file that cannot be read or understood allows nothing, and a line in the log says why.
pub fn read(request: &Request, path: &ngx_http_complex_value_t, kind: AclKind) -> Option<String> {
    let mut path = request.evaluate_path(path)?;
    let json = open(request, &mut path).and_then(|file| file.map(|file| text(&file)).transpose());
    let reason = match json {
        Ok(None) => return None,
        Ok(Some(json)) => match ContainerAcls::from_json(&json) {
            Ok(acls) => {
                return match kind {
                    AclKind::Read => acls.read,
                    AclKind::Write => acls.write,
                }
            }
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    // SAFETY: the path lives as long as the request.
    let path = String::from_utf8_lossy(unsafe { bytes(&path) });
    complain(request, format_args!("ACL file {path:?} allows nothing: {reason}"));
    None
}

fn open(request: &Request, path: &mut ngx_str_t) -> io::Result<Option<ManuallyDrop<File>>> {
    let Some(info) = open_cached(request, path)? else { return Ok(None) };
    if info.is_file() == 0 {
        return Err(io::Error::other("it is not a file"));
    }
    // SAFETY: nginx has opened the file.
    let file = unsafe { File::from_raw_fd(info.fd) };
    // And it closes it.
    Ok(Some(ManuallyDrop::new(file)))
}

fn text(file: &File) -> io::Result<Vec<u8>> {
    // What nginx remembers of a file that it has kept open may be old.
    let size = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    if size > MOST {
        return Err(io::Error::other(format!("it has more than {MOST} bytes")));
    }
    let mut text = vec![0; size];
    file.read_exact_at(&mut text, 0)?;
    Ok(text)
}

/// Swift has no ACL longer than 256 bytes in its metadata by default; this leaves room.
const MOST: usize = 65_536;
