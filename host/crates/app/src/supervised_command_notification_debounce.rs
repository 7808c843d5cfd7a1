//! Notification of the supervised command about changes, debounced until the group sinks have delivered.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Time without a delivery of a group sink after which the command is notified. Group sinks start their deliveries
/// shortly after the change of a source, so an earlier notification would miss them.
const GROUP_IDLE_TIME: Duration = Duration::from_millis(40);
/// Maximum time that a notification of the command waits for the group sinks. Without this limit, sources that change
/// all the time would delay the notification without end.
const GROUP_WAIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Pending notification of the command. It is debounced until the group sinks have delivered, so that one
/// notification covers all deliveries that follow a change.
pub(crate) struct CommandNotification {
    due_at: Instant,
    deadline: Instant,
    are_groups_delivering: bool,
}

impl CommandNotification {
    /// Creates a notification that is pending since `now`.
    pub(crate) fn new(has_groups: bool, now: Instant) -> Self {
        let due_at = if has_groups { now + GROUP_IDLE_TIME } else { now };
        Self { due_at, deadline: now + GROUP_WAIT_TIMEOUT, are_groups_delivering: false }
    }

    /// Records whether a group sink is settling or delivering.
    pub(crate) fn set_groups_delivering(&mut self, are_delivering: bool, now: Instant) {
        if are_delivering {
            self.due_at = self.deadline;
        } else if self.are_groups_delivering {
            self.due_at = self.deadline.min(now + GROUP_IDLE_TIME);
        }
        self.are_groups_delivering = are_delivering;
    }

    /// Waits until the command is to be notified. Never completes without a notification.
    pub(crate) async fn due(notification: Option<&Self>) {
        match notification {
            Some(notification) => sleep_until(notification.due_at).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_groups_notification_is_due_at_once() {
        let now = Instant::now();
        assert_eq!(CommandNotification::new(false, now).due_at, now);
    }

    #[test]
    fn notification_waits_until_groups_are_idle() {
        let start = Instant::now();
        let mut notification = CommandNotification::new(true, start);
        assert_eq!(notification.due_at, start + GROUP_IDLE_TIME);
        let later = |millis| start + Duration::from_millis(millis);
        notification.set_groups_delivering(true, later(1));
        assert_eq!(notification.due_at, start + GROUP_WAIT_TIMEOUT, "the groups are delivering");
        notification.set_groups_delivering(false, later(100));
        assert_eq!(notification.due_at, later(100) + GROUP_IDLE_TIME);
        notification.set_groups_delivering(false, later(120));
        assert_eq!(notification.due_at, later(100) + GROUP_IDLE_TIME, "still idle");
        notification.set_groups_delivering(true, later(130));
        assert_eq!(notification.due_at, start + GROUP_WAIT_TIMEOUT, "delivering again");
    }

    #[test]
    fn busy_groups_delay_notification_until_its_deadline() {
        let start = Instant::now();
        let mut notification = CommandNotification::new(true, start);
        let just_before = start + GROUP_WAIT_TIMEOUT - Duration::from_millis(1);
        notification.set_groups_delivering(true, just_before);
        notification.set_groups_delivering(false, just_before);
        assert_eq!(notification.due_at, start + GROUP_WAIT_TIMEOUT);
    }
}
