//! Basic auth with bcrypt hashes.
//!
//! bcrypt is slow on purpose, so a client could occupy all processors with wrong passwords. llmload
//! therefore verifies one password at a time, lets only a few wait, and remembers the last correct
//! password of each user. After its first login, a client does not wait for the others. It waits
//! again after a new hash and after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap};
use ring::hmac;
use ring::rand::SystemRandom;
use secrecy::ExposeSecret as _;
use tokio::sync::Semaphore;

use crate::plan::SecretText;

/// The highest number of passwords that wait for their verification.
const MAX_WAITING: usize = 16;
/// The hash of a random text that nobody knows, without its cost. llmload verifies the password of
/// an unknown user with it, so a client cannot measure which users exist.
const DECOY: &str = "$WbYdJ.oMahlpcUNBNhSycO1M1Zo7XAcBOidS/5Rexw3GWWRj2eW4.";
const LOWEST_COST: &str = "04";

/// The result of the login of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Login {
    /// There are no users, so everyone has access.
    Open,
    Accepted,
    Refused,
    /// Too many passwords wait for their verification.
    Busy,
}

/// The order in which llmload verifies passwords. It survives a change of the files.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    waiting: Arc<Semaphore>,
    verifying: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Turns {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Turns { waiting: semaphore(MAX_WAITING), verifying: semaphore(1) }
    }
}

#[derive(Debug)]
pub(super) struct Users {
    hashes: HashMap<String, SecretText>,
    decoy: SecretText,
    turns: Turns,
    /// For each user, a tag of the last correct password. A tag reveals nothing about a password
    /// without the key, which is random and only in memory.
    verified: Mutex<HashMap<String, hmac::Tag>>,
    key: Option<hmac::Key>,
}

impl Default for Users {
    fn default() -> Users {
        Users::new(Vec::new(), &Turns::default())
    }
}

impl Users {
    /// `users` are the names and the valid hashes.
    pub(super) fn new(users: Vec<(String, SecretText)>, turns: &Turns) -> Users {
        let cost = |hash: &SecretText| hash.expose_secret().get(4..6).map(str::to_owned);
        let cost = users.iter().filter_map(|(_, hash)| cost(hash)).max();
        let cost = cost.unwrap_or_else(|| LOWEST_COST.to_owned());
        Users {
            decoy: SecretText::from(format!("$2y${cost}{DECOY}")),
            hashes: users.into_iter().collect(),
            turns: turns.clone(),
            verified: Mutex::default(),
            // Without random numbers, llmload verifies every password with bcrypt.
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
        }
    }

    /// Remembers the correct passwords of the users whose hash is the same as before. Otherwise
    /// every client would wait for its verification after each change of the files.
    pub(super) fn keep_verified(&mut self, old: &Users) {
        let Some(key) = &old.key else { return };
        let mut verified = old.verified.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let hash = |users: &Users, user: &str| {
            users.hashes.get(user).map(|hash| hash.expose_secret().to_owned())
        };
        verified.retain(|user, _| hash(self, user).is_some_and(|new| hash(old, user) == Some(new)));
        self.key = Some(key.clone());
        self.verified = Mutex::new(verified);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(super) async fn log_in(&self, headers: &HeaderMap) -> Login {
        if self.is_empty() {
            return Login::Open;
        }
        let Some((user, password)) = credentials(headers) else { return Login::Refused };
        let known = self.hashes.get(&user);
        if known.is_some() && self.is_verified(&user, &password) {
            return Login::Accepted;
        }
        // An unknown user takes the same time as a wrong password.
        let hash = known.unwrap_or(&self.decoy).clone();
        let Ok(_place) = self.turns.waiting.try_acquire() else { return Login::Busy };
        let Ok(turn) = Arc::clone(&self.turns.verifying).acquire_owned().await else {
            return Login::Busy;
        };
        let candidate = password.clone();
        let verification = tokio::task::spawn_blocking(move || {
            // Even if the client has gone, the next password waits for the end.
            let _turn = turn;
            bcrypt::verify(candidate, hash.expose_secret())
        });
        let is_correct = matches!(verification.await, Ok(Ok(true)));
        if known.is_none() || !is_correct {
            return Login::Refused;
        }
        self.set_verified(user, &password);
        Login::Accepted
    }

    fn is_verified(&self, user: &str, password: &[u8]) -> bool {
        let tag = self.verified.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied();
        let (Some(tag), Some(key)) = (tag, &self.key) else { return false };
        hmac::verify(key, password, tag.as_ref()).is_ok()
    }

    fn set_verified(&self, user: String, password: &[u8]) {
        let Some(key) = &self.key else { return };
        let tag = hmac::sign(key, password);
        self.verified.lock().unwrap_or_else(PoisonError::into_inner).insert(user, tag);
    }
}

/// Returns the user and the password. A password can contain any bytes.
fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let user = std::str::from_utf8(&decoded[..colon]).ok()?;
    scheme.eq_ignore_ascii_case("basic").then(|| (user.to_owned(), decoded[colon + 1..].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The password is `correct horse`.
    const HASH: &str = "$2y$04$abcdefghijklmnopqrstuujydOTSfIH/d5oUHpsygqV5X9xJLQc6e";

    fn users(turns: &Turns) -> Users {
        Users::new(vec![("ann".to_owned(), SecretText::from(HASH.to_owned()))], turns)
    }

    fn header(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, value.try_into().unwrap())])
    }

    fn basic(pair: &str) -> HeaderMap {
        header(&format!("Basic {}", STANDARD.encode(pair)))
    }

    #[tokio::test]
    async fn only_the_right_password_of_a_known_user_is_accepted() {
        let users = users(&Turns::default());
        assert_eq!(users.log_in(&basic("ann:correct horse")).await, Login::Accepted);
        assert_eq!(users.log_in(&basic("ann:correct horse")).await, Login::Accepted, "remembered");
        for pair in ["ann:", "ann:correct hors", "ann:correct horse ", "bob:correct horse", "", ":"]
        {
            assert_eq!(users.log_in(&basic(pair)).await, Login::Refused, "{pair}");
        }
        let encoded = STANDARD.encode("ann:correct horse");
        assert_eq!(users.log_in(&header(&format!("bAsIc {encoded}"))).await, Login::Accepted);
        for value in [&encoded, "Basic", "Basic *", &format!("Bearer {encoded}")] {
            assert_eq!(users.log_in(&header(value)).await, Login::Refused, "{value}");
        }
        assert_eq!(users.log_in(&HeaderMap::new()).await, Login::Refused);
        assert_eq!(Users::default().log_in(&HeaderMap::new()).await, Login::Open);
    }

    #[tokio::test]
    async fn a_known_password_never_waits_and_others_wait_only_in_a_short_queue() {
        let turns = Turns::default();
        let users = users(&turns);
        assert_eq!(users.log_in(&basic("ann:correct horse")).await, Login::Accepted);
        let places = turns.waiting.acquire_many(MAX_WAITING.try_into().unwrap()).await.unwrap();
        assert_eq!(users.log_in(&basic("ann:wrong")).await, Login::Busy);
        assert_eq!(users.log_in(&basic("bob:wrong")).await, Login::Busy);
        assert_eq!(users.log_in(&basic("ann:correct horse")).await, Login::Accepted);
        drop(places);
        assert_eq!(users.log_in(&basic("ann:wrong")).await, Login::Refused);
    }

    #[tokio::test]
    async fn new_files_forget_the_password_of_a_user_only_with_its_hash() {
        let turns = Turns::default();
        let old = users(&turns);
        assert_eq!(old.log_in(&basic("ann:correct horse")).await, Login::Accepted);
        let _places = turns.waiting.acquire_many(MAX_WAITING.try_into().unwrap()).await.unwrap();
        let mut same = users(&turns);
        assert_eq!(same.log_in(&basic("ann:correct horse")).await, Login::Busy);
        same.keep_verified(&old);
        assert_eq!(same.log_in(&basic("ann:correct horse")).await, Login::Accepted);
        assert_eq!(same.log_in(&basic("ann:wrong")).await, Login::Busy);
        let hash = HASH.replacen("04", "05", 1);
        let mut changed = Users::new(vec![("ann".to_owned(), SecretText::from(hash))], &turns);
        changed.keep_verified(&old);
        assert_eq!(changed.log_in(&basic("ann:correct horse")).await, Login::Busy);
        let mut without = Users::new(Vec::new(), &turns);
        without.keep_verified(&old);
        assert!(without.verified.lock().unwrap().is_empty());
    }

    #[test]
    fn an_unknown_user_takes_as_long_as_the_user_with_the_slowest_hash() {
        for (cost, expected) in [("04", 4), ("12", 12)] {
            let hash = HASH.replacen("04", cost, 1);
            let two = vec![
                ("ann".to_owned(), SecretText::from(HASH.to_owned())),
                ("bob".to_owned(), SecretText::from(hash)),
            ];
            let users = Users::new(two, &Turns::default());
            let decoy: bcrypt::HashParts = users.decoy.expose_secret().parse().unwrap();
            assert_eq!(decoy.get_cost(), expected);
        }
    }

    #[test]
    fn no_debug_output_contains_a_hash() {
        let text = format!("{:?}", users(&Turns::default()));
        assert!(text.contains("ann") && !text.contains(&HASH[7..20]), "{text}");
    }
}
