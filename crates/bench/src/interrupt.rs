//! Signals that want the program to end.

use anyhow::{Context, Result};
use testkit::process;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// From now on SIGINT, SIGTERM and SIGHUP make waits fail, so that everything is put away on the way out; the second one
/// ends the program at once.
pub fn watch() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals: Vec<Signal> = {
        let _inside = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(signal)
            .into_iter()
            .collect::<std::io::Result<_>>()
            .context("cannot watch for signals")?
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                let [a, b, c] = &mut signals[..] else { return };
                for at_once in [false, true] {
                    tokio::select! { _ = a.recv() => {}, _ = b.recv() => {}, _ = c.recv() => {} }
                    if at_once {
                        std::process::exit(130);
                    }
                    process::interrupt();
                }
            });
        })
        .context("cannot watch for signals")?;
    Ok(())
}
