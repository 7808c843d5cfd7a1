//! Attacks on the file access of plugins.

use guest_sdk::{Failure, Host};
use std::{fs, time::Duration};
use wasip2::filesystem::preopens::get_directories;

pub(crate) fn folder(path: &str) -> Result<Vec<u8>, Failure> {
    let names: Vec<_> = fs::read_dir(path)?.flatten().map(|entry| entry.file_name()).collect();
    Ok(format!("{names:?}").into_bytes())
}

pub(crate) fn preopened() -> Vec<u8> {
    get_directories().len().to_string().into_bytes()
}

pub(crate) fn write(path: &str) -> Result<Vec<u8>, Failure> {
    fs::write(path, "written")?;
    Ok(b"written".to_vec())
}

pub(crate) fn truncate(path: &str) -> Result<Vec<u8>, Failure> {
    fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    Ok(b"truncated".to_vec())
}

pub(crate) fn rename(path: &str) -> Result<Vec<u8>, Failure> {
    fs::rename(path, format!("{path}.renamed"))?;
    Ok(b"renamed".to_vec())
}

pub(crate) fn link(path: &str) -> Result<Vec<u8>, Failure> {
    fs::hard_link(path, format!("{path}.linked"))?;
    Ok(b"linked".to_vec())
}

pub(crate) fn remove(path: &str) -> Result<Vec<u8>, Failure> {
    fs::remove_file(path)?;
    Ok(b"removed".to_vec())
}

pub(crate) fn watch(host: &Host, path: &str) -> Result<Vec<u8>, Failure> {
    host.watch_file(path)?.wait(Duration::from_millis(10))?;
    Ok(b"watched".to_vec())
}
