//! Plugins and a cache of compiled plugins on a file system that does not answer.

use e2e::{HungMount, WAIT_TIMEOUT, plugin_cache};
use reloader_host::plugin::{Cache, PluginHost};
use std::{sync::mpsc, thread, time::Duration};
use tokio::{runtime::Runtime, time::timeout};

/// Number of hung plugin files: more than the host loads concurrently.
const HUNG_PLUGINS: usize = 12;
/// Timeout of the shutdown. It takes milliseconds, unless it waits for a hung load, which fails after ten seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn hung_plugin_delays_neither_other_plugins_nor_shutdown() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mount) = HungMount::over(directory.path()) else { return };
    let path = mount.path().join("plugin.wasm").display().to_string();
    let host = PluginHost::builder().cache(Cache::at(plugin_cache())).build().unwrap();
    let runtime = Runtime::new().unwrap();
    let loads: Vec<_> = (0..HUNG_PLUGINS)
        .map(|_| {
            let (host, path) = (host.clone(), path.clone());
            runtime.spawn(async move { host.load(&path).await.map(|_| ()) })
        })
        .collect();
    runtime.block_on(async {
        let other = timeout(WAIT_TIMEOUT, host.load("file")).await.expect("another plugin loads");
        assert!(other.is_ok());
        for load in loads {
            let error = timeout(WAIT_TIMEOUT, load).await.unwrap().unwrap().unwrap_err();
            let expected =
                "cannot read the file: no answer within 10s; does its file system respond?";
            assert!(error.to_string().ends_with(expected), "{error}");
        }
    });
    let (sender, ended) = mpsc::channel();
    thread::spawn(move || {
        drop((runtime, host));
        let _ = sender.send(());
    });
    ended.recv_timeout(SHUTDOWN_TIMEOUT).expect("the shutdown does not wait for the file system");
}

#[tokio::test]
async fn hung_cache_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mount) = HungMount::over(directory.path()) else { return };
    let cache = Cache::at(mount.path().join("cache"));
    let host = PluginHost::builder().cache(cache).build().unwrap();
    // The first load waits for the cache until an internal timeout, then compiles the plugin, which takes seconds. The
    // second load does not wait for the cache.
    for plugin in ["file", "file"] {
        let loaded = timeout(2 * WAIT_TIMEOUT, host.load(plugin)).await;
        assert!(loaded.expect("the plugin loads without the cache").is_ok());
    }
}
