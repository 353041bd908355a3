//! The flags that say when a launch is given up and what of it is shown: the same for every command that runs kernels.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ptx::observe::Interrupt;

use crate::note;

/// What of a launch is shown, and when it is given up.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Seeing {
    /// Give a launch up after so many warp instructions.
    #[arg(long, value_name = "N")]
    pub step_limit: Option<u64>,
    /// Give a launch up after so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub time_limit: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let value: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(value).map_err(|_| format!("{text} is no number of seconds"))
}

/// Ctrl-C asks all launches where they stand, the second ends them with what they have so far, the third ends the process.
pub fn interrupt() -> Result<Interrupt, String> {
    let interrupt = Interrupt::new(|table| note(format_args!("{table}Ctrl-C again ends the launch.\n")));
    let (pressed, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let refused = |e: std::io::Error| format!("Ctrl-C cannot be listened to: {e}");
    let sigint = signal_hook::consts::SIGINT;
    signal_hook::flag::register_conditional_shutdown(sigint, crate::INTERRUPTED.into(), last.clone()).map_err(refused)?;
    signal_hook::flag::register(sigint, pressed.clone()).map_err(refused)?;
    let asked = interrupt.clone();
    // A signal handler may do next to nothing, so a thread does it.
    std::thread::spawn(move || {
        let mut before = false;
        loop {
            std::thread::sleep(Duration::from_millis(20));
            if pressed.swap(false, Ordering::Relaxed) {
                if before {
                    last.store(true, Ordering::Relaxed);
                    asked.stop();
                    return;
                }
                asked.look();
                before = true;
            }
        }
    });
    Ok(interrupt)
}
