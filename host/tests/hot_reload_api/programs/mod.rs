//! Programs that use every name of the API of `hot_reload`.
#![allow(dead_code, reason = "some items need only compile")]
#![allow(unreachable_pub, reason = "written as in an independent program")]

use super::hot_reload;

mod bounds;
mod dependent_files;
mod files;
mod key_value;
mod polled_config;
mod pushed;
