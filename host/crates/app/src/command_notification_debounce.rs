//! Notification of the supervised command about changes, debounced until the group sinks have delivered.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Poll interval of the state of the group sinks, before the command is notified.
const GROUP_POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Maximum time that a notification of the command waits for the group sinks, in case the sources change
/// all the time.
const GROUP_WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pending notification of the command. It is debounced until the group sinks have delivered, so that one
/// notification covers everything that a change produces.
pub(crate) struct CommandNotification {
    next_check_at: Instant,
    deadline: Instant,
    /// Set if the group sinks were idle at the last check.
    was_idle: bool,
}

impl CommandNotification {
    /// Creates a notification that is pending since `now`.
    pub(crate) fn new(has_groups: bool, now: Instant) -> Self {
        let next_check_at = if has_groups { now + GROUP_POLL_INTERVAL } else { now };
        Self { next_check_at, deadline: now + GROUP_WAIT_TIMEOUT, was_idle: !has_groups }
    }

    /// Waits until the next check.
    pub(crate) async fn next_check(notification: Option<&Self>) {
        if let Some(notification) = notification {
            sleep_until(notification.next_check_at).await;
        }
    }

    /// Returns whether the command is to be notified now: at the deadline, or after two checks in a row at
    /// which the group sinks were idle.
    pub(crate) fn is_due(&mut self, are_groups_delivering: bool, now: Instant) -> bool {
        if now >= self.deadline || !are_groups_delivering && self.was_idle {
            return true;
        }
        (self.next_check_at, self.was_idle) = (now + GROUP_POLL_INTERVAL, !are_groups_delivering);
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_groups_notification_is_due_at_once() {
        let now = Instant::now();
        assert!(CommandNotification::new(false, now).is_due(false, now));
    }

    #[test]
    fn notification_waits_for_two_idle_checks_of_groups() {
        let start = Instant::now();
        let mut notification = CommandNotification::new(true, start);
        let check = |number: u32| start + GROUP_POLL_INTERVAL * number;
        assert!(!notification.is_due(true, check(1)), "the groups are delivering");
        assert!(!notification.is_due(false, check(2)), "first idle check");
        assert!(!notification.is_due(true, check(3)), "delivering again");
        assert!(!notification.is_due(false, check(4)));
        assert!(notification.is_due(false, check(5)));
    }

    #[test]
    fn busy_groups_delay_notification_until_its_deadline() {
        let start = Instant::now();
        let mut notification = CommandNotification::new(true, start);
        let just_before = start + GROUP_WAIT_TIMEOUT - Duration::from_millis(1);
        assert!(!notification.is_due(true, just_before));
        assert!(notification.is_due(true, start + GROUP_WAIT_TIMEOUT));
    }
}
