//! The commands of the module, made of the table of directives.

use std::ffi::{c_char, c_void, CStr};

use keystone_conf::{count_names, directives, Arguments, Contexts, Directive, Line, Setter};
use nginx_sys::{
    ngx_command_t, ngx_conf_t, ngx_str_t, ngx_uint_t, NGX_CONF_1MORE, NGX_CONF_FLAG,
    NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_HTTP_LMT_CONF, NGX_HTTP_LOC_CONF,
    NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF,
    NGX_HTTP_SRV_CONF_OFFSET,
};
use ngx::core::NGX_CONF_ERROR;

use super::directive::{self, Value};
use super::location::LocationConf;
use super::server::ServerConf;
use super::MainConf;
use crate::panic::catch_panic;

/// All directives under each of their names, and nginx's end of the list.
pub static mut COMMANDS: [ngx_command_t; COUNT + 1] = commands();

const COUNT: usize = count_names::<Value>();

const fn commands() -> [ngx_command_t; COUNT + 1] {
    let mut commands = [ngx_command_t::empty(); COUNT + 1];
    let groups = directives::<Value>();
    let (mut group, mut count) = (0, 0);
    while group < groups.len() {
        let mut at = 0;
        while at < groups[group].len() {
            let directive = &groups[group][at];
            commands[count] = command(directive, directive.name);
            count += 1;
            if let Some(alias) = directive.alias {
                commands[count] = command(directive, alias);
                count += 1;
            }
            at += 1;
        }
        group += 1;
    }
    commands
}

const fn command(directive: &Directive<Value>, name: &'static CStr) -> ngx_command_t {
    let contexts = match directive.contexts {
        Contexts::Http => NGX_HTTP_MAIN_CONF,
        Contexts::Server => NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF,
        Contexts::ServerAndLocation => NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF,
        Contexts::All => {
            NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_HTTP_LMT_CONF
        }
        Contexts::Location => NGX_HTTP_LOC_CONF,
    };
    let arguments = match directive.arguments {
        Arguments::Flag => NGX_CONF_FLAG,
        Arguments::NoneOrOne => NGX_CONF_NOARGS | NGX_CONF_TAKE1,
        Arguments::One => NGX_CONF_TAKE1,
        Arguments::OneOrMore => NGX_CONF_1MORE,
    };
    ngx_command_t {
        name: ngx_str_t { len: name.count_bytes(), data: name.as_ptr().cast_mut().cast() },
        type_: (contexts | arguments) as ngx_uint_t,
        set: Some(set),
        conf: match directive.setter {
            Setter::Main(_) => NGX_HTTP_MAIN_CONF_OFFSET,
            Setter::Server(_) => NGX_HTTP_SRV_CONF_OFFSET,
            Setter::Location(_) => NGX_HTTP_LOC_CONF_OFFSET,
        },
        offset: 0,
        post: std::ptr::null_mut(),
    }
}

/// Reads a directive of the table into the configuration of its level.
unsafe extern "C" fn set(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: nginx passes its own `cf`, which nothing else uses meanwhile.
    let Some(cf) = (unsafe { cf.as_mut() }) else { return NGX_CONF_ERROR };
    // nginx passes, as `conf`, what the offset of the command selects.
    let set = |directive: &Directive<Value>, line: &mut Line<'_, Value>| match directive.setter {
        Setter::Main(set) => {
            // SAFETY: a main configuration, which the module's create function has made.
            let conf = unsafe { &mut *conf.cast::<MainConf>() };
            set(line, &mut conf.directives)?;
            conf.directives.positions.note(directive.name(), line.position());
            Ok(())
        }
        Setter::Server(set) => {
            // SAFETY: a server's configuration, likewise.
            let conf = unsafe { &mut *conf.cast::<ServerConf>() };
            set(line, &mut conf.directives)?;
            conf.directives.positions.note(directive.name(), line.position());
            Ok(())
        }
        Setter::Location(set) => {
            // SAFETY: a location's configuration, likewise.
            let conf = unsafe { &mut *conf.cast::<LocationConf>() };
            set(line, conf)
        }
    };
    catch_panic(NGX_CONF_ERROR, || directive::read(cf, set))
}
