//! One-shot timer that a thread waits for.
//!
//! The host arms the timer during guest calls, so arming must be cheap. Waking the waiting thread to arm a timer would
//! take longer than everything else that the host does for a call. So on Linux, the timer is a `timerfd`: the kernel
//! wakes the thread only when the timer expires.

pub(crate) use imp::Timer;

#[cfg(target_os = "linux")]
mod imp {
    use rustix::{
        io::{Errno, read},
        time::{
            Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
            timerfd_settime,
        },
    };
    use std::{io, os::fd::OwnedFd, time::Duration};

    /// One-shot timer that one thread arms and another waits for, on a `timerfd`.
    #[derive(Debug)]
    pub(crate) struct Timer(OwnedFd);

    impl Timer {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
        }

        /// Arms the timer to expire after this time. Replaces the previous expiry.
        pub(crate) fn set(&self, after: Duration) {
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            let nanoseconds = i64::try_from(after.as_nanos()).unwrap_or(i64::MAX).max(1);
            let once = Itimerspec {
                it_interval: none,
                it_value: Timespec {
                    tv_sec: nanoseconds / 1_000_000_000,
                    tv_nsec: nanoseconds % 1_000_000_000,
                },
            };
            // Fails only for an invalid time or descriptor.
            let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
        }

        /// Waits until the timer expires.
        pub(crate) fn wait(&self) {
            let mut times = [0; 8];
            while read(&self.0, &mut times) == Err(Errno::INTR) {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use reloader_util::sync::{Condvar, Mutex};
    use std::{
        io,
        time::{Duration, Instant},
    };

    /// One-shot timer that one thread arms and another waits for, on a condition variable.
    #[derive(Debug)]
    pub(crate) struct Timer {
        at: Mutex<Option<Instant>>,
        set: Condvar,
    }

    impl Timer {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { at: Mutex::new(None), set: Condvar::new() })
        }

        /// Arms the timer to expire after this time. Replaces the previous expiry.
        pub(crate) fn set(&self, after: Duration) {
            *self.at.lock() = Some(Instant::now() + after);
            self.set.notify_one();
        }

        /// Waits until the timer expires.
        pub(crate) fn wait(&self) {
            let mut at = self.at.lock();
            loop {
                let left = at.map(|at| at.saturating_duration_since(Instant::now()));
                at = match left {
                    Some(Duration::ZERO) => break,
                    Some(left) => self.set.wait_timeout(at, left),
                    None => self.set.wait(at),
                };
            }
            *at = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn timer_expires_at_last_set_time() {
        let timer = Timer::new().unwrap();
        let start = Instant::now();
        timer.set(Duration::from_secs(3600));
        timer.set(Duration::from_millis(5));
        timer.wait();
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
