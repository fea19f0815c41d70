//! After every kind of fault of a server, the HTTP/1.1 client has no connection and no task left,
//! and the next request succeeds.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use llmload::plan::Timeouts;
use tokio::time::Instant;

use crate::binary::TEST_TIMEOUT;
use crate::chaos::Kind;
use crate::connections::target;
use crate::faults::{request_spec, send_spec};
use crate::upstream::{Recorder, Upstream, arrival_now};

/// Starts a server in a separate runtime, so the tasks of the test's runtime are those of the
/// client. The server responds to each request as `kind` requires: it is an index of
/// [`Kind::FAULTS`], or anything else for a good response.
fn server_elsewhere(kind: Arc<AtomicUsize>) -> SocketAddr {
    let (address, started) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = Upstream::start_with_head(move |number, head| {
                let kind = Kind::FAULTS.get(kind.load(Ordering::SeqCst)).unwrap_or(&Kind::Good);
                kind.script(number, head)
            })
            .await;
            address.send(upstream.address).unwrap();
            std::future::pending::<()>().await;
        });
    });
    started.recv().unwrap()
}

/// Returns the number of open client sockets to a server, also those that the server has closed.
fn sockets_to(server: SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!("0100007F:{:04X}", server.port());
    let is_open = |line: &&str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        // A socket that no process has open, for example in TIME_WAIT, has no inode.
        fields[2] == remote && fields[9] != "0"
    };
    table.lines().skip(1).filter(is_open).count()
}

async fn wait_until_all_is_closed(server: SocketAddr, kind: Kind) {
    let begun = Instant::now();
    loop {
        let sockets = sockets_to(server);
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        if (sockets, tasks) == (0, 0) {
            return;
        }
        assert!(begun.elapsed() < TEST_TIMEOUT, "{kind:?}: {sockets} sockets, {tasks} tasks");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn no_fault_of_a_server_leaves_a_connection_or_a_task_of_the_client_behind() {
    let kind = Arc::new(AtomicUsize::new(usize::MAX));
    let server = server_elsewhere(Arc::clone(&kind));
    let (target, endpoint) = target(&format!("http://{server}/v1"), ", keep_alive: 50ms");
    let short = Timeouts {
        first_token: Duration::from_millis(200),
        idle: Duration::from_millis(150),
        total: Duration::from_millis(400),
        ..Timeouts::default()
    };
    for (index, fault) in Kind::FAULTS.into_iter().enumerate() {
        kind.store(index, Ordering::SeqCst);
        let requests = (0..9_u64).map(|number| {
            let (target, endpoint) = (&target, &endpoint);
            async move {
                let mut spec = request_spec(target, number % 2 == 0);
                spec.timeouts = short;
                let recorder = Recorder::default();
                let send = async {
                    let running = llmload::exchange::exchange(
                        endpoint,
                        arrival_now(),
                        || Ok(spec),
                        &recorder,
                    );
                    running.await.drain_body().await;
                };
                if number % 3 == 0 {
                    // llmload ends a request at any instant.
                    let limit = Duration::from_millis(number * 4);
                    let _ended = tokio::time::timeout(limit, send).await;
                } else {
                    send.await;
                }
            }
        });
        futures_util::future::join_all(requests).await;
        kind.store(usize::MAX, Ordering::SeqCst);
        let mut spec = request_spec(&target, true);
        spec.timeouts = Timeouts::default();
        let (outcome, message, _) = send_spec(&endpoint, spec, Recorder::default()).await;
        assert_eq!(outcome, Ok(()), "after {fault:?}: {message}");
        wait_until_all_is_closed(server, fault).await;
    }
}
