//! The configuration that applies to a request.

use ngx::http::{HttpModuleLocationConf, HttpModuleMainConf, HttpModuleServerConf};

use super::location::LocationConf;
use super::server::ServerConf;
use super::MainConf;
use crate::request::Request;
use crate::HttpKeystoneModule;

impl Request {
    /// The configuration of the location that the request is in now.
    pub fn location(&self) -> Option<&'static LocationConf> {
        HttpKeystoneModule::location_conf(self.get())
    }

    /// The configuration of all servers.
    pub fn main(&self) -> Option<&'static MainConf> {
        HttpKeystoneModule::main_conf(self.get())
    }

    /// The configuration of its server.
    pub fn server(&self) -> Option<&'static ServerConf> {
        HttpKeystoneModule::server_conf(self.get())
    }
}
