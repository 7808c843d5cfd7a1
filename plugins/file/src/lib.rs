//! The source `file`: one file's content, and every change of it.

use guest_sdk::{
    Event, Failure, FileError, FileWatch, Host, Outcome, RealtimeWatch, Reload, Snapshot,
};
use std::time::Duration;

/// A file.
#[guest_sdk::settings]
pub struct Settings {
    /// The file. It may be a symbolic link, and it may not exist yet.
    #[setting(read)]
    pub path: String,
    /// What the content is, e.g. `application/json`. Guessed from the file's name when left out.
    pub media_type: Option<String>,
}

/// One file.
pub struct OneFile {
    path: String,
    media_type: Option<String>,
    host: Host,
    watch: Option<FileWatch>,
}

/// How long the watch waits before it says that it is alive.
const ALIVE: Duration = Duration::from_secs(30);

impl Reload for OneFile {
    type Config = Settings;

    fn new(config: Settings, host: &Host) -> Result<Self, Failure> {
        let media_type = config.media_type.or_else(|| guess(&config.path).map(Into::into));
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
        if !watch.wait(ALIVE)? {
            return Ok(Event::Alive);
        }
        // Read here, so that the value is on its way at once. What is not a value for certain (the
        // file is away, or cannot be read) is for the host to find out by reloading.
        match self.reload(None) {
            Ok(Outcome::Changed(snapshot)) if !snapshot.content.is_empty() => {
                Ok(Event::Changed(snapshot))
            }
            _ => Ok(Event::Dirty),
        }
    }
}

/// The media type that a file's name suggests.
fn guess(path: &str) -> Option<&'static str> {
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
    fn the_value_is_the_content_and_its_type_follows_from_the_name() {
        let fake = FakeHost::new();
        fake.put_file("etc/app.toml", "a = 1");
        let expected = Snapshot::new("a = 1").media_type("application/toml");
        assert_eq!(source(&fake).reload(None), Ok(expected.into()));
    }

    #[test]
    fn a_missing_file_is_absent_not_a_failure() {
        assert_eq!(source(&FakeHost::new()).reload(None), Ok(Outcome::Absent));
    }

    #[test]
    fn a_change_carries_the_new_value() {
        let fake = FakeHost::new();
        let mut source = source(&fake);
        source.watch(None).unwrap();
        assert_eq!(source.next(), Ok(Event::Alive));
        fake.put_file("etc/app.toml", "a = 2");
        let expected = Snapshot::new("a = 2").media_type("application/toml");
        assert_eq!(source.next(), Ok(Event::Changed(expected)));
    }

    #[test]
    fn a_file_that_went_away_or_became_empty_is_for_the_host_to_look_at() {
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
    fn media_types_are_guessed_by_extension_only() {
        assert_eq!(guess("a.d/config"), None);
        assert_eq!(guess("/x/A.JSON"), Some("application/json"));
        assert_eq!(guess(".env"), None);
    }
}
