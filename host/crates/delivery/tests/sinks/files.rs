//! Values as files.

use crate::site::{Given, Place, work};
use reloader_delivery::{Backup, File, FileSettings, Mode, OnRemoved, Sink, WorkerSettings};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink},
    path::Path,
};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

fn to(path: impl AsRef<Path>) -> FileSettings {
    FileSettings::new(path.as_ref())
}

/// Delivers one value, and says why not.
async fn put(settings: FileSettings, value: &str) -> Result<(), String> {
    let source = Given::with("app", value);
    let settings_of = WorkerSettings { retries: 0, ..WorkerSettings::default() };
    let mut working = work(&[&source], File::new(settings), settings_of);
    let status = working.when(|status| status.at.is_some() || status.failing.is_some()).await;
    status.failing.map_or(Ok(()), |why| Err(why.to_string()))
}

fn names(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path()).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn a_file_has_the_value_and_nothing_is_left_beside_it() {
    let place = Place::new();
    let source = Given::with("app", "one");
    let mut working = work(&[&source], File::new(to(place.file("app"))), WorkerSettings::default());
    working.has(1).await;
    assert_eq!(place.read("app"), "one");
    source.set("two");
    working.has(2).await;
    assert_eq!(place.read("app"), "two");
    assert_eq!(names(&place), ["app"]);
}

#[tokio::test]
async fn a_file_need_not_wait_for_the_disk() {
    let place = Place::new();
    put(FileSettings { durable: false, ..to(place.file("app")) }, "one").await.unwrap();
    put(FileSettings { durable: false, ..to(place.file("app")) }, "two").await.unwrap();
    assert_eq!(place.read("app"), "two");
    assert_eq!(names(&place), ["app"]);
}

#[tokio::test]
async fn a_new_file_is_private_and_one_that_is_there_keeps_its_mode() {
    let place = Place::new();
    put(to(place.file("new")), "a").await.unwrap();
    assert_eq!(mode(&place.file("new")), 0o600);
    fs::write(place.file("old"), "before").unwrap();
    fs::set_permissions(place.file("old"), Permissions::from_mode(0o640)).unwrap();
    put(to(place.file("old")), "a").await.unwrap();
    assert_eq!((mode(&place.file("old")), place.read("old").as_str()), (0o640, "a"));
    let settings = FileSettings { mode: Some(Mode(0o644)), ..to(place.file("old")) };
    put(settings, "b").await.unwrap();
    assert_eq!(mode(&place.file("old")), 0o644);
}

#[tokio::test]
async fn what_is_there_already_is_not_written_and_wakes_nobody() {
    let place = Place::new();
    put(to(place.file("app")), "a").await.unwrap();
    let before = fs::metadata(place.file("app")).unwrap();
    // Another start: nothing is known of what was delivered before.
    let source = Given::with("app", "a");
    let mut working = work(&[&source], File::new(to(place.file("app"))), WorkerSettings::default());
    assert_eq!(working.has(1).await.changes, 0);
    let after = fs::metadata(place.file("app")).unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
    // Only its permissions are not what they should be.
    let settings = FileSettings { mode: Some(Mode(0o644)), ..to(place.file("app")) };
    put(settings, "a").await.unwrap();
    assert_eq!(mode(&place.file("app")), 0o644);
    assert_eq!(fs::metadata(place.file("app")).unwrap().ino(), before.ino());
}

#[tokio::test]
async fn what_somebody_has_changed_meanwhile_is_put_right_at_the_next_start() {
    let place = Place::new();
    put(to(place.file("app")), "right").await.unwrap();
    fs::write(place.file("app"), "wrong").unwrap();
    put(to(place.file("app")), "right").await.unwrap();
    assert_eq!(place.read("app"), "right");
}

#[tokio::test]
async fn a_symbolic_link_stays_and_what_it_leads_to_is_replaced() {
    let place = Place::new();
    fs::create_dir(place.file("dotfiles")).unwrap();
    fs::write(place.file("dotfiles/app"), "before").unwrap();
    symlink("dotfiles/app", place.file("app")).unwrap();
    symlink(place.file("app"), place.file("twice")).unwrap();
    put(to(place.file("twice")), "a").await.unwrap();
    assert!(fs::symlink_metadata(place.file("app")).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(place.file("dotfiles/app")).unwrap(), "a");
    // Also one that leads nowhere yet.
    symlink("dotfiles/new", place.file("dangling")).unwrap();
    put(to(place.file("dangling")), "b").await.unwrap();
    assert_eq!(fs::read_to_string(place.file("dotfiles/new")).unwrap(), "b");
    symlink("circle", place.file("circle")).unwrap();
    let error = put(to(place.file("circle")), "c").await.unwrap_err();
    assert!(error.contains("its links lead in a circle"), "{error}");
}

#[tokio::test]
async fn another_users_link_is_not_followed_where_everybody_may_put_one() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::write(place.file("passwd"), "root").unwrap();
    symlink("passwd", place.file("app")).unwrap();
    lchown(place.file("app"), Some(65534), Some(65534)).unwrap();
    for mode in [0o1777, 0o777] {
        fs::set_permissions(place.path(), Permissions::from_mode(mode)).unwrap();
        let error = put(to(place.file("app")), "a").await.unwrap_err();
        assert!(error.contains("another user's link"), "{error}");
        assert_eq!(place.read("passwd"), "root");
    }
}

#[tokio::test]
async fn a_file_that_another_user_has_put_there_gets_no_value_where_everybody_may_put_one() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.path(), Permissions::from_mode(0o1777)).unwrap();
    fs::write(place.file("app"), "theirs").unwrap();
    fs::set_permissions(place.file("app"), Permissions::from_mode(0o666)).unwrap();
    lchown(place.file("app"), Some(65534), Some(65534)).unwrap();
    let error = put(to(place.file("app")), "secret").await.unwrap_err();
    assert!(error.contains("another user's file"), "{error}");
    assert_eq!(place.read("app"), "theirs");
    // One that is to be theirs is.
    let settings = FileSettings { owner: Some("nobody".into()), ..to(place.file("app")) };
    put(settings, "for them").await.unwrap();
    assert_eq!(place.read("app"), "for them");
}

#[tokio::test]
async fn owner_and_group_are_what_is_written_or_what_they_were() {
    if !is_root() {
        return;
    }
    let place = Place::new();
    let (owner, group) = (Some("nobody".into()), Some("65533".into()));
    put(FileSettings { owner, group, ..to(place.file("app")) }, "a").await.unwrap();
    let of = |name| fs::metadata(place.file(name)).map(|it| (it.uid(), it.gid())).unwrap();
    assert_eq!(of("app"), (65534, 65533));
    put(to(place.file("app")), "b").await.unwrap();
    assert_eq!(of("app"), (65534, 65533), "as they were");
}

#[tokio::test]
async fn an_owner_who_does_not_exist_is_named() {
    let place = Place::new();
    let owner = Some("no-such-user".into());
    let error = put(FileSettings { owner, ..to(place.file("app")) }, "a").await.unwrap_err();
    assert!(error.ends_with("there is no user `no-such-user` (`owner`)"), "{error}");
    assert!(names(&place).is_empty(), "nobody may read it meanwhile");
}

#[tokio::test]
async fn the_file_before_is_kept_if_that_is_wanted() {
    let place = Place::new();
    for in_place in [false, true] {
        let name = format!("app-{in_place}");
        let backup = Backup::Suffix(".before".into());
        let source = Given::with("app", "one");
        let settings = FileSettings { backup, in_place, ..to(place.file(&name)) };
        let mut working = work(&[&source], File::new(settings), WorkerSettings::default());
        working.has(1).await;
        assert!(!place.file(&format!("{name}.before")).exists(), "there was none");
        for (revision, value) in [(2, "two"), (3, "three")] {
            source.set(value);
            working.has(revision).await;
        }
        assert_eq!(place.read(&name), "three");
        assert_eq!(place.read(&format!("{name}.before")), "two");
        assert_eq!(mode(&place.file(&format!("{name}.before"))), 0o600);
    }
    assert_eq!(names(&place).len(), 4);
}

#[tokio::test]
async fn a_file_that_is_mounted_by_itself_is_written_in_place() {
    let place = Place::new();
    fs::write(place.file("app"), "a longer text before").unwrap();
    let before = fs::metadata(place.file("app")).unwrap().ino();
    put(FileSettings { in_place: true, ..to(place.file("app")) }, "short").await.unwrap();
    assert_eq!(place.read("app"), "short");
    assert_eq!(fs::metadata(place.file("app")).unwrap().ino(), before);
    assert_eq!(names(&place), ["app"]);
}

#[tokio::test]
async fn missing_directories_are_made_only_if_that_is_wanted() {
    let place = Place::new();
    let path = place.file("a/b/app");
    let error = put(to(&path), "x").await.unwrap_err();
    assert!(error.contains("a/b/app` cannot be written: "), "{error}");
    assert!(error.ends_with("(or set `create-directories = true`)"), "{error}");
    assert!(!error.contains(".reloader-"), "the same at each try: {error}");
    put(FileSettings { create_directories: true, ..to(&path) }, "x").await.unwrap();
    assert_eq!(place.read("a/b/app"), "x");
}

#[tokio::test]
async fn what_is_no_file_is_let_be() {
    let place = Place::new();
    fs::create_dir(place.file("app")).unwrap();
    let error = put(to(place.file("app")), "x").await.unwrap_err();
    assert!(error.ends_with("it is not a file"), "{error}");
    assert_eq!(names(&place), ["app"]);
}

#[tokio::test]
async fn a_value_that_is_gone_takes_the_file_with_it_if_that_is_wanted() {
    let place = Place::new();
    for in_place in [false, true] {
        let name = format!("app-{in_place}");
        let source = Given::with("app", "a");
        let sink = File::new(FileSettings { in_place, ..to(place.file(&name)) });
        let settings = WorkerSettings { on_removed: OnRemoved::Clear, ..WorkerSettings::default() };
        let mut working = work(&[&source], sink, settings);
        working.has(1).await;
        source.remove();
        working.has(2).await;
        assert_eq!((place.file(&name).exists(), place.read(&name).as_str()), (in_place, ""));
    }
}

#[tokio::test]
async fn a_file_holds_one_source() {
    let place = Place::new();
    let (a, b) = (Given::with("a", "1"), Given::with("b", "2"));
    let sink = File::new(to(place.file("app")));
    assert!(sink.looks_itself());
    let mut working = work(&[&a, &b], sink, WorkerSettings::default());
    assert!(working.failure().await.contains("use `type = \"template\"`"));
}
