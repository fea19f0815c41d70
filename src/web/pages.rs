//! Pages that are expensive to encode, such as `/metrics` with ten thousand series. Clients that
//! wait for a page share its bytes, so memory does not grow with the number of clients.
//!
//! ```text
//! client ──> waiting ──┐                        ┌──> client
//! client ──> waiting ──┼──> thread: encode ─────┼──> client
//! client ──> waiting ──┘    once, then pause    └──> client
//! ```
//!
//! The encoding begins after the requests of its clients, so a page never shows old values. One
//! thread encodes, and pauses after each page, so clients cannot occupy a processor.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// After an encoding of 10 ms, the thread pauses for 40 ms.
const PAUSE_FACTOR: u32 = 4;
/// The longest pause. It is also the pause while slow clients hold many bytes of earlier pages, so
/// that they have time to read.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// If the pages in memory exceed this number of bytes, llmload closes the connections that read the
/// oldest page.
const MAX_BYTES: usize = 4 << 20;
/// The number of newest pages that never expire. With 2, two Prometheus servers can read two pages
/// at the same time.
const KEPT_PAGES: usize = 2;

/// An encoded page. It is in memory until the last reader drops its clone.
#[derive(Clone, Debug)]
pub(super) struct Page {
    text: Arc<Vec<u8>>,
    /// Cancelled if the connections that read this page must close.
    pub(super) expired: CancellationToken,
}

impl AsRef<[u8]> for Page {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

/// Encodes a page into an empty buffer, which has room for a page like the previous one.
pub(super) trait Encode: FnMut(&mut Vec<u8>) -> Result<(), String> + Send + 'static {}

impl<F: FnMut(&mut Vec<u8>) -> Result<(), String> + Send + 'static> Encode for F {}

/// The source of one page. Dropping it ends its thread.
#[derive(Debug)]
pub(super) struct PageSource(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<oneshot::Sender<Result<Page, String>>>,
    /// True if the source is dropped or the thread has ended.
    is_closed: bool,
}

impl PageSource {
    /// Starts the thread that encodes the page.
    ///
    /// # Errors
    /// If the system cannot start a thread.
    pub(super) fn start(name: &str, encode: impl Encode) -> std::io::Result<PageSource> {
        let shared = Arc::new(Shared::default());
        let thread = ThreadEnd(Arc::clone(&shared));
        std::thread::Builder::new().name(name.to_owned()).spawn(move || thread.0.run(encode))?;
        Ok(PageSource(shared))
    }

    /// Returns a page whose encoding begins after this call.
    ///
    /// # Errors
    /// If the page cannot be encoded, which is a defect.
    pub(super) async fn page(&self) -> Result<Page, String> {
        let (sender, page) = oneshot::channel();
        self.0.add_client(sender);
        let ended = |_| Err("the thread that encodes this page panicked; see the log".to_owned());
        page.await.unwrap_or_else(ended)
    }
}

impl Drop for PageSource {
    fn drop(&mut self) {
        self.0.lock().is_closed = true;
        self.0.changed.notify_one();
    }
}

/// Ends the wait of all clients if the thread panics.
struct ThreadEnd(Arc<Shared>);

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.is_closed = true;
        queue.waiting.clear();
    }
}

impl Shared {
    fn run(&self, mut encode: impl Encode) {
        let mut pages = Pages::default();
        let mut length = 0;
        while self.wait_for_client() {
            let waiting = std::mem::take(&mut self.lock().waiting);
            let begun = Instant::now();
            let mut text = Vec::with_capacity(length);
            let page = encode(&mut text).map(|()| {
                text.shrink_to_fit();
                length = text.len();
                pages.add(text)
            });
            for client in waiting {
                // The client possibly no longer waits.
                let _gone = client.send(page.clone());
            }
            drop(page);
            std::thread::sleep(pages.pause(begun.elapsed()));
        }
    }

    fn add_client(&self, client: oneshot::Sender<Result<Page, String>>) {
        let mut queue = self.lock();
        if !queue.is_closed {
            queue.waiting.push(client);
            self.changed.notify_one();
        }
    }

    /// Waits for a client. Returns false if the thread must end.
    fn wait_for_client(&self) -> bool {
        let mut queue = self.lock();
        while queue.waiting.is_empty() && !queue.is_closed {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        !queue.is_closed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pages in memory, from the oldest to the newest.
#[derive(Debug, Default)]
struct Pages(VecDeque<(Weak<Vec<u8>>, CancellationToken)>);

impl Pages {
    /// Adds a page. If the pages need too much memory, the oldest pages expire.
    fn add(&mut self, text: Vec<u8>) -> Page {
        let page = Page { text: Arc::new(text), expired: CancellationToken::new() };
        self.0.push_back((Arc::downgrade(&page.text), page.expired.clone()));
        while self.bytes() > MAX_BYTES && self.0.len() > KEPT_PAGES {
            if let Some((_, expired)) = self.0.pop_front() {
                expired.cancel();
            }
        }
        page
    }

    /// Returns the time until the next page can be encoded.
    fn pause(&mut self, encoding: Duration) -> Duration {
        if self.bytes() > MAX_BYTES / 2 && self.0.len() > 1 {
            return LONGEST_PAUSE;
        }
        (encoding * PAUSE_FACTOR).min(LONGEST_PAUSE)
    }

    /// Forgets the pages without a reader. Returns the length of the others.
    fn bytes(&mut self) -> usize {
        self.0.retain(|(text, _)| text.strong_count() > 0);
        self.0.iter().filter_map(|(text, _)| text.upgrade()).map(|text| text.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn the_oldest_pages_expire_if_slow_readers_hold_too_many_bytes() {
        let mut pages = Pages::default();
        let add = |pages: &mut Pages, bytes: usize| pages.add(vec![0; bytes]);
        let third = MAX_BYTES / 3;
        let held = [add(&mut pages, third), add(&mut pages, third), add(&mut pages, third)];
        drop(add(&mut pages, third));
        assert!(held[0].expired.is_cancelled() && !held[1].expired.is_cancelled());
        assert_eq!(
            pages.bytes(),
            2 * third,
            "an expired page and a page without a reader do not count"
        );
        let [_, second, _] = held;
        drop(second);
        assert_eq!(pages.bytes(), third);
        // The two newest pages never expire, however long they are.
        let long = [add(&mut pages, 2 * MAX_BYTES), add(&mut pages, 2 * MAX_BYTES)];
        assert!(long.iter().all(|page| !page.expired.is_cancelled()));
        let third = add(&mut pages, 2 * MAX_BYTES);
        assert!(long[0].expired.is_cancelled() && !long[1].expired.is_cancelled());
        assert!(!third.expired.is_cancelled());
    }

    #[test]
    fn the_pause_is_a_multiple_of_the_encoding_time_and_longer_while_slow_readers_hold_pages() {
        let mut pages = Pages::default();
        let pause = |pages: &mut Pages, millis| pages.pause(Duration::from_millis(millis));
        assert_eq!(pause(&mut pages, 10), Duration::from_millis(40));
        assert_eq!(pause(&mut pages, 1000), LONGEST_PAUSE);
        let one = pages.add(vec![0; MAX_BYTES]);
        assert_eq!(pause(&mut pages, 10), Duration::from_millis(40), "one page is normal");
        let other = pages.add(vec![0; MAX_BYTES]);
        assert_eq!(pause(&mut pages, 10), LONGEST_PAUSE);
        drop((one, other));
        assert_eq!(pause(&mut pages, 10), Duration::from_millis(40));
    }

    /// Three clients request a page while the thread encodes an earlier one. They share the next
    /// page, which is newer than their requests.
    #[tokio::test]
    async fn clients_that_wait_share_a_page_that_is_newer_than_their_requests() {
        let ((begun, has_begun), (release, released)) = (mpsc::channel(), mpsc::channel());
        let mut number = 0;
        let source = PageSource::start("test", move |text: &mut Vec<u8>| {
            number += 1;
            begun.send(()).unwrap();
            released.recv().unwrap();
            text.push(number);
            Ok(())
        });
        let source = Arc::new(source.unwrap());
        let request = || {
            let source = Arc::clone(&source);
            tokio::spawn(async move { source.page().await.unwrap() })
        };
        let first = request();
        tokio::task::yield_now().await;
        has_begun.recv().unwrap();
        let others = [request(), request(), request()];
        tokio::task::yield_now().await;
        release.send(()).unwrap();
        release.send(()).unwrap();
        assert_eq!(first.await.unwrap().as_ref(), [1]);
        let mut pages = Vec::new();
        for other in others {
            pages.push(other.await.unwrap());
        }
        assert!(pages.iter().all(|page| page.as_ref() == [2]));
        assert!(pages.iter().all(|page| Arc::ptr_eq(&page.text, &pages[0].text)));
    }

    #[tokio::test]
    async fn a_panic_of_the_encoder_is_an_error_for_all_clients() {
        let source = PageSource::start("test", |_: &mut Vec<u8>| panic!("on purpose")).unwrap();
        for _ in 0..2 {
            assert!(source.page().await.is_err());
        }
    }
}
