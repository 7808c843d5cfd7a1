//! Source plugin `file`: the content of a file, watched through kernel events.

use guest_sdk::{
    Event, Failure, FileError, FileWatch, Host, Outcome, RealtimeWatch, Reload, Snapshot,
};
use std::time::Duration;

/// Settings of the source plugin `file`.
#[guest_sdk::settings]
pub struct Settings {
    /// Path of the file, which may be a symbolic link and may not exist yet.
    #[setting(read)]
    pub path: String,
    /// Media type of the content, e.g. `application/json`. The default depends on the file extension.
    pub media_type: Option<String>,
}

/// Source that reads and watches one file.
pub struct OneFile {
    path: String,
    media_type: Option<String>,
    host: Host,
    watch: Option<FileWatch>,
}

/// Interval of [`Event::Alive`] while the file does not change.
const ALIVE_INTERVAL: Duration = Duration::from_secs(30);

impl Reload for OneFile {
    type Config = Settings;

    fn new(config: Settings, host: &Host) -> Result<Self, Failure> {
        let media_type =
            config.media_type.or_else(|| media_type_of_path(&config.path).map(Into::into));
        Ok(Self { path: config.path, media_type, host: host.clone(), watch: None })
    }

    fn reload(&mut self, _known: Option<&str>) -> Result<Outcome, Failure> {
        match self.host.read_file(&self.path) {
            Ok(content) => Ok(Outcome::Changed(Snapshot {
                content,
                media_type: self.media_type.clone(),
                cursor: None,
            })),
            Err(FileError::NotFound) => Ok(Outcome::Absent),
            Err(error) => Err(Failure::from(error).context(format_args!("`{}`", self.path))),
        }
    }
}

impl RealtimeWatch for OneFile {
    fn watch(&mut self, _known: Option<&str>) -> Result<(), Failure> {
        self.watch = Some(self.host.watch_file(&self.path)?);
        Ok(())
    }

    fn next(&mut self) -> Result<Event, Failure> {
        let watch = self.watch.as_mut().ok_or_else(|| Failure::permanent("not watching"))?;
        if !watch.wait(ALIVE_INTERVAL)? {
            return Ok(Event::Alive);
        }
        // Reads the file here to save a round trip through the host. For a missing, unreadable or empty
        // file, the event is `Dirty`: the host then reloads and decides, e.g. whether to remove the value.
        match self.reload(None) {
            Ok(Outcome::Changed(snapshot)) if !snapshot.content.is_empty() => {
                Ok(Event::Changed(snapshot))
            }
            _ => Ok(Event::Dirty),
        }
    }
}

/// Returns the media type of a file extension.
fn media_type_of_path(path: &str) -> Option<&'static str> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "json" => "application/json",
        "toml" => "application/toml",
        "yaml" | "yml" => "application/yaml",
        "xml" => "application/xml",
        "txt" | "conf" | "cfg" | "ini" => "text/plain",
        "pem" | "crt" | "key" => "application/x-pem-file",
        _ => return None,
    })
}

guest_sdk::export!(OneFile: Reload + RealtimeWatch);

#[cfg(test)]
mod tests {
    use super::*;
    use guest_sdk::FakeHost;

    fn source(fake: &FakeHost) -> OneFile {
        let settings = Settings { path: "etc/app.toml".into(), media_type: None };
        OneFile::new(settings, &fake.host()).unwrap()
    }

    #[test]
    fn value_has_content_and_media_type() {
        let fake = FakeHost::new();
        fake.put_file("etc/app.toml", "a = 1");
        let expected = Snapshot::new("a = 1").media_type("application/toml");
        assert_eq!(source(&fake).reload(None), Ok(expected.into()));
    }

    #[test]
    fn missing_file_is_absent() {
        assert_eq!(source(&FakeHost::new()).reload(None), Ok(Outcome::Absent));
    }

    #[test]
    fn change_event_has_new_value() {
        let fake = FakeHost::new();
        let mut source = source(&fake);
        source.watch(None).unwrap();
        assert_eq!(source.next(), Ok(Event::Alive));
        fake.put_file("etc/app.toml", "a = 2");
        let expected = Snapshot::new("a = 2").media_type("application/toml");
        assert_eq!(source.next(), Ok(Event::Changed(expected)));
    }

    /// The host confirms a removed or empty file with a reload.
    #[test]
    fn removed_or_empty_file_is_dirty() {
        let fake = FakeHost::new();
        fake.put_file("etc/app.toml", "a = 1");
        let mut source = source(&fake);
        source.watch(None).unwrap();
        fake.put_file("etc/app.toml", "");
        assert_eq!(source.next(), Ok(Event::Dirty));
        fake.remove_file("etc/app.toml");
        assert_eq!(source.next(), Ok(Event::Dirty));
    }

    #[test]
    fn media_type_depends_on_extension() {
        assert_eq!(media_type_of_path("a.d/config"), None);
        assert_eq!(media_type_of_path("/x/A.JSON"), Some("application/json"));
        assert_eq!(media_type_of_path(".env"), None);
    }
}
