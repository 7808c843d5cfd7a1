//! Program with one service for each key of a store.

use super::hot_reload::{Reload, ReloadResult, ReloaderConfig, ReloaderError, ReloaderService};
use async_trait::async_trait;
use std::{
    collections::HashMap,
    sync::{Arc, RwLock},
};

type Store = Arc<RwLock<HashMap<String, String>>>;

#[derive(Clone)]
struct Key {
    store: Store,
    key: String,
}

#[async_trait]
impl Reload<String, String> for Key {
    type Source = (Store, String);

    async fn new((store, key): &Self::Source) -> ReloadResult<Self, String, String> {
        if key.is_empty() {
            return Err(ReloaderError::Reload("the key is empty".into()));
        }
        Ok(Self { store: store.clone(), key: key.clone() })
    }

    async fn reload(&self) -> ReloadResult<Option<String>, String, String> {
        Ok(self.store.read().unwrap().get(&self.key).cloned())
    }
}

#[tokio::test]
async fn late_key_is_received() {
    let store = Store::default();
    let mut receivers = Vec::new();
    for key in ["a", "b", "c"] {
        let (service, rx) = ReloaderService::<Key, String, String>::new(
            &(store.clone(), key.to_owned()),
            ReloaderConfig::polling(0),
        )
        .await
        .unwrap();
        tokio::spawn(async move { service.start().await });
        receivers.push(rx);
    }
    for (key, rx) in ["a", "b", "c"].iter().zip(&mut receivers) {
        assert_eq!(rx.get(), None);
        store.write().unwrap().insert((*key).to_owned(), format!("{key} is here"));
        rx.changed().await.unwrap();
        assert_eq!(rx.get(), Some(format!("{key} is here")));
    }
}

#[tokio::test]
async fn failed_creation_is_an_error() {
    let result = ReloaderService::<Key, String, String>::with_defaults(&Default::default()).await;
    match result {
        Err(ReloaderError::Reload(reason)) => assert_eq!(reason, "the key is empty"),
        Err(_) | Ok(_) => panic!(),
    }
}
