//! The keys, each a file that survives a restart.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_STANDARD};
use cloister_stand_in::files;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::KmsError;

/// All keys of this KMS.
#[derive(Debug)]
pub(crate) struct Keys {
    directory: PathBuf,
    /// `arn:aws:kms:eu-central-1:111122223333:key/`
    arn_prefix: String,
    keys: RwLock<BTreeMap<Uuid, Arc<Key>>>,
}

/// A key as its file holds it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    pub(crate) id: Uuid,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) description: String,
    pub(crate) origin: Origin,
    pub(crate) multi_region: bool,
    pub(crate) policy: String,
    pub(crate) disabled: bool,
    pub(crate) deletion: Option<Deletion>,
    #[serde(with = "base64_material")]
    material: Zeroizing<[u8; 32]>,
}

/// Origin of a key's material.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Origin {
    #[serde(rename = "AWS_KMS")]
    AwsKms,
    /// Imported material, which is still missing: such a key can be described, not used.
    #[serde(rename = "EXTERNAL")]
    External,
}

/// When a key is due for deletion.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deletion {
    /// Seconds since 1970.
    pub(crate) date: u64,
    pub(crate) window_days: u8,
}

impl Keys {
    /// Reads every key of a directory, which is made if it is missing.
    pub(crate) fn open(directory: PathBuf, arn_prefix: String) -> io::Result<Self> {
        files::create_private_directory(&directory)?;
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                let key: Key =
                    serde_json::from_slice(&fs::read(&path)?).map_err(|_| damaged(&path))?;
                keys.insert(key.id, Arc::new(key));
            }
        }
        Ok(Self {
            directory,
            arn_prefix,
            keys: RwLock::new(keys),
        })
    }

    pub(crate) fn arn(&self, key: &Key) -> String {
        format!("{}{}", self.arn_prefix, key.id)
    }

    /// The key with this id or ARN.
    pub(crate) fn find(&self, key_id: &str) -> Result<Arc<Key>, KmsError> {
        let id = key_id.strip_prefix(&self.arn_prefix).unwrap_or(key_id);
        // Only the one spelling that CreateKey returned.
        let parsed = Uuid::parse_str(id)
            .ok()
            .filter(|parsed| parsed.to_string() == id);
        parsed.and_then(|id| self.with_id(id)).ok_or_else(|| {
            KmsError::new(
                "NotFoundException",
                format!("Key '{}{id}' does not exist", self.arn_prefix),
            )
        })
    }

    pub(crate) fn with_id(&self, id: Uuid) -> Option<Arc<Key>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&id)
            .cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Key>> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Stores a new key.
    pub(crate) fn insert(&self, key: Key) -> Result<Arc<Key>, KmsError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        self.store(&mut keys, key)
    }

    /// Changes a key, on disk first.
    pub(crate) fn change(
        &self,
        id: Uuid,
        change: impl FnOnce(&mut Key),
    ) -> Result<Arc<Key>, KmsError> {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let mut key = keys
            .get(&id)
            .map(|key| Key::clone(key))
            .ok_or_else(|| KmsError::internal("a key vanished"))?;
        change(&mut key);
        self.store(&mut keys, key)
    }

    fn store(&self, keys: &mut BTreeMap<Uuid, Arc<Key>>, key: Key) -> Result<Arc<Key>, KmsError> {
        let failed = |_| KmsError::internal("the key could not be stored");
        let json = Zeroizing::new(
            serde_json::to_vec_pretty(&key)
                .map_err(|_| KmsError::internal("the key could not be written as JSON"))?,
        );
        files::replace(&self.directory.join(format!("{}.json", key.id)), &json).map_err(failed)?;
        let key = Arc::new(key);
        keys.insert(key.id, Arc::clone(&key));
        Ok(key)
    }
}

impl Key {
    /// A key with fresh material.
    pub(crate) fn generate(
        created: u64,
        description: String,
        origin: Origin,
        multi_region: bool,
        policy: String,
    ) -> Result<Self, KmsError> {
        let mut material = Zeroizing::new([0; 32]);
        rand::fill(&mut *material).map_err(|_| KmsError::internal("no random numbers"))?;
        Ok(Self {
            id: Uuid::new_v4(),
            created,
            description,
            origin,
            multi_region,
            policy,
            disabled: false,
            deletion: None,
            material,
        })
    }

    /// As KMS names it.
    pub(crate) fn state(&self) -> &'static str {
        match (self.deletion, self.origin, self.disabled) {
            (Some(_), _, _) => "PendingDeletion",
            (None, Origin::External, _) => "PendingImport",
            (None, Origin::AwsKms, true) => "Disabled",
            (None, Origin::AwsKms, false) => "Enabled",
        }
    }

    /// The key's material, while the key may be used.
    pub(crate) fn material(&self) -> Result<&[u8; 32], KmsError> {
        match self.state() {
            "Enabled" => Ok(&self.material),
            "Disabled" => Err(KmsError::new("DisabledException", "the key is disabled")),
            state => Err(KmsError::new(
                "KMSInvalidStateException",
                format!("the key is {state}"),
            )),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

fn damaged(path: &Path) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{} is not a key", path.display()),
    )
}

mod base64_material {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{BASE64_STANDARD, Deserialize, Engine, Zeroizing};

    pub(super) fn serialize<S: Serializer>(
        material: &Zeroizing<[u8; 32]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64_STANDARD.encode(material.as_slice())))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Zeroizing<[u8; 32]>, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = Zeroizing::new(
            BASE64_STANDARD
                .decode(text.as_bytes())
                .map_err(|_| D::Error::custom("not base64"))?,
        );
        bytes
            .as_slice()
            .try_into()
            .map(Zeroizing::new)
            .map_err(|_| D::Error::custom("not 32 bytes"))
    }
}
