//! Programs that use every name of the API, as the users of `hot_reload` write them.
#![allow(dead_code, reason = "some of it need only compile")]
#![allow(unreachable_pub, reason = "written as in a program of its own")]

use super::hot_reload;

mod bounds;
mod dependent_files;
mod files;
mod key_value;
mod polled_config;
mod pushed;
