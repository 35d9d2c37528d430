//! The one runtime, and the one edge where a thread waits for it.

use std::future::Future;
use std::sync::OnceLock;
use tokio::runtime::{Builder, Runtime};

/// Does a request on the calling thread's time. Made with the first one: a process that asks nobody has no runtime.
pub fn wait_for<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = match RUNTIME.get() {
        Some(runtime) => runtime,
        None => {
            let made = Builder::new_multi_thread().worker_threads(2).thread_name("link").enable_all().build()?;
            RUNTIME.get_or_init(|| made)
        }
    };
    Ok(runtime.block_on(work))
}
