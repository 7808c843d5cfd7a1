//! A clock that goes off a while after it has been set.
//!
//! Setting it must cost little, since it happens on the way of each value. Waking a thread there and
//! then takes longer than all else that the host does for a call; so on Linux the kernel wakes it, when
//! it is time.

pub(crate) use imp::Alarm;

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

    #[derive(Debug)]
    pub(crate) struct Alarm(OwnedFd);

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
        }

        /// Goes off so much later; instead of when it was set for before.
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
            // It fails for times that are none, and for what is no timer.
            let _ = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once);
        }

        /// Waits until it goes off.
        pub(crate) fn wait(&self) {
            let mut times = [0; 8];
            while read(&self.0, &mut times) == Err(Errno::INTR) {}
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use std::{
        io,
        sync::{Condvar, Mutex, PoisonError},
        time::{Duration, Instant},
    };

    #[derive(Debug)]
    pub(crate) struct Alarm {
        at: Mutex<Option<Instant>>,
        set: Condvar,
    }

    impl Alarm {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self { at: Mutex::new(None), set: Condvar::new() })
        }

        /// Goes off so much later; instead of when it was set for before.
        pub(crate) fn set(&self, after: Duration) {
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + after);
            self.set.notify_one();
        }

        /// Waits until it goes off.
        pub(crate) fn wait(&self) {
            let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let left = at.map(|at| at.saturating_duration_since(Instant::now()));
                at = match left {
                    Some(Duration::ZERO) => break,
                    Some(left) => {
                        self.set.wait_timeout(at, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                    None => self.set.wait(at).unwrap_or_else(PoisonError::into_inner),
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
    fn it_goes_off_when_it_was_set_for_last() {
        let alarm = Alarm::new().unwrap();
        let start = Instant::now();
        alarm.set(Duration::from_secs(3600));
        alarm.set(Duration::from_millis(5));
        alarm.wait();
        assert!(start.elapsed() >= Duration::from_millis(5));
    }
}
