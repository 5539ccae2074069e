//! Frames in fragments, which a server accepts, and sequences of fragments that violate the protocol.

use std::time::Duration;

use rpc_server::ServerConfig;
use tests::raw_peer::{RawFrame, RawPeer};

use super::scene::{MAX_FRAME, RESOURCE_EXHAUSTED, Scene, call, echo, echo_of, with_transport};

/// The shortest body of a fragment that is not the last.
const MIN_FRAGMENT: usize = 16 << 10;
/// The number of bodies that the server assembles at the same time.
const MAX_BODIES: u32 = 4;

/// Returns a fragment of a call, of which more follow.
fn first_fragment(id: u32, length: usize) -> RawFrame {
    let fragment = RawFrame::empty(RawFrame::REQUEST | RawFrame::MORE_FRAGMENTS, id);
    let mut body = vec![0; length];
    body[..4].copy_from_slice(&1_000_000_u32.to_be_bytes());
    fragment.with_body(body)
}

fn ack(bytes: usize) -> Vec<u8> {
    RawFrame::empty(RawFrame::ACK, 0).with_body((bytes as u32).to_be_bytes()).to_bytes()
}

/// Sends SETTINGS that permit fragments. Returns the SETTINGS of the server.
async fn permit_fragments(peer: &mut RawPeer, bodies: u8) -> Vec<RawFrame> {
    peer.send(RawFrame::empty(RawFrame::SETTINGS, 0).with_body([1, 0, 1, bodies]).to_bytes()).await;
    assert_eq!(peer.ask(&echo(70)).await.text(), r#""still here""#);
    peer.settings().to_vec()
}

#[tokio::test]
async fn server_states_its_settings_only_to_a_peer_with_settings() {
    let mut scene = Scene::new().await;
    scene.expect_answer().await;
    assert_eq!(scene.peer.settings(), []);
    for _ in 0..2 {
        let settings = permit_fragments(&mut scene.peer, 4).await;
        assert_eq!(settings, [RawFrame::empty(RawFrame::SETTINGS, 0).with_body([1, 0, 1, 4])], "it states them once");
    }
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn server_assembles_interleaved_calls() {
    let mut scene = Scene::new().await;
    let calls = [1, 2].map(|id| echo_of(id, 100_000));
    let [first, second] = calls.clone().map(|call| call.into_fragments(MIN_FRAGMENT));
    let mut answered = Vec::new();
    for (first, second) in first.into_iter().zip(second) {
        scene.peer.send([first.to_bytes(), second.to_bytes(), echo(3).to_bytes()].concat()).await;
        // The server answers each call between the fragments.
        while !answered.contains(&3) {
            let answer = scene.peer.receive().await;
            assert_eq!(answer.status().0, 0);
            answered.push(answer.id);
        }
        answered.retain(|id| *id != 3);
    }
    while answered.len() < 2 {
        answered.push(scene.peer.receive().await.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [1, 2]);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn assembled_call_equals_the_whole_one() {
    let mut scene = Scene::new().await;
    let whole = scene.peer.ask(&echo_of(1, 100_000)).await;
    let fragments = echo_of(1, 100_000).into_fragments(MIN_FRAGMENT + 1);
    for fragment in &fragments {
        scene.peer.send(fragment.to_bytes()).await;
    }
    assert_eq!(scene.peer.receive().await, whole);
    let [most @ .., _] = &fragments[..] else { panic!("there are several") };
    let expected: usize = most.iter().map(|fragment| fragment.to_bytes().len()).sum();
    assert_eq!(scene.peer.acknowledged() as usize, expected);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn server_sends_long_results_in_fragments_if_permitted() {
    let mut scene = Scene::new().await;
    let long = echo_of(1, 300_000);
    let whole = scene.peer.ask(&long).await;
    assert_eq!(whole.kind, RawFrame::RESPONSE, "no settings");
    permit_fragments(&mut scene.peer, 1).await;
    scene.peer.send(long.to_bytes()).await;
    let mut fragments = Vec::new();
    loop {
        let fragment = scene.peer.receive().await;
        assert_eq!(fragment.kind & !RawFrame::MORE_FRAGMENTS, RawFrame::RESPONSE);
        let is_last = fragment.kind == RawFrame::RESPONSE;
        if !is_last {
            scene.peer.send(ack(fragment.to_bytes().len())).await;
        }
        fragments.push(fragment);
        if is_last {
            break;
        }
    }
    assert_eq!(fragments.len(), 5);
    assert!(fragments.iter().all(|fragment| fragment.body.len() <= (64 << 10) - 16));
    let bytes: Vec<_> = fragments.into_iter().flat_map(|fragment| fragment.body).collect();
    let (announced, body) = bytes.split_at(4);
    assert_eq!((announced, body), (&(whole.body.len() as u32).to_be_bytes()[..], &whole.body[..]));
    permit_fragments(&mut scene.peer, 0).await;
    assert_eq!(scene.peer.ask(&long).await, whole, "the peer has withdrawn its permission");
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn fragments_at_limit_are_accepted() {
    let mut scene = Scene::new().await;
    for fragment in echo_of(1, MAX_FRAME).into_fragments(1 << 20) {
        scene.peer.send(fragment.to_bytes()).await;
    }
    assert_eq!(scene.peer.receive().await.status().0, 0);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn fragments_over_limit_fail_only_their_call() {
    let mut scene = Scene::new().await;
    for fragment in echo_of(1, MAX_FRAME + 1).into_fragments(1 << 20) {
        scene.peer.send(fragment.to_bytes()).await;
    }
    let (code, message) = scene.peer.receive().await.status();
    assert_eq!(code, RESOURCE_EXHAUSTED);
    assert!(message.contains("8388608") && message.contains("8388609"), "{message}");
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn announced_length_over_16_times_limit_closes_connection() {
    for (over, closes) in [(0, false), (1, true)] {
        let mut scene = Scene::new().await;
        let mut fragment = first_fragment(1, MIN_FRAGMENT);
        fragment.body[..4].copy_from_slice(&(16 * MAX_FRAME - 16 + over).to_be_bytes());
        scene.peer.send(fragment.to_bytes()).await;
        if closes {
            scene.expect_close().await;
        } else {
            let answer = scene.peer.receive().await;
            assert_eq!((answer.id, answer.status().0), (1, RESOURCE_EXHAUSTED), "before the rest arrives");
            scene.expect_bystander_unaffected().await;
        }
    }
}

#[tokio::test]
async fn wrong_length_of_fragments_closes_connection() {
    let fragments = echo_of(1, 100_000).into_fragments(MIN_FRAGMENT);
    for change in [-1, 1] {
        let mut scene = Scene::new().await;
        let mut fragments = fragments.clone();
        let last = fragments.last_mut().unwrap();
        last.body.resize(last.body.len().checked_add_signed(change).unwrap(), 0);
        scene.peer.send(fragments.iter().flat_map(RawFrame::to_bytes).collect::<Vec<_>>()).await;
        scene.expect_close().await;
    }
}

/// Returns a peer to which the server sends a long result in fragments.
async fn receiving(config: ServerConfig) -> Scene {
    let mut scene = Scene::with(config).await;
    permit_fragments(&mut scene.peer, 4).await;
    scene.peer.send(echo_of(1, 1_000_000).to_bytes()).await;
    let first = scene.peer.receive().await;
    assert_eq!(first.kind, RawFrame::RESPONSE | RawFrame::MORE_FRAGMENTS);
    scene
}

#[tokio::test]
async fn wrong_ack_closes_connection() {
    let bodies = [vec![], vec![0; 3], vec![0; 5], (MIN_FRAGMENT as u32 - 1).to_be_bytes().to_vec(), vec![0xff; 4]];
    for body in bodies {
        let mut scene = receiving(ServerConfig::default()).await;
        scene.peer.send(RawFrame::empty(RawFrame::ACK, 0).with_body(body).to_bytes()).await;
        while scene.peer.try_receive().await.is_some() {}
        scene.expect_bystander_unaffected().await;
    }
}

#[tokio::test]
async fn missing_ack_closes_connection() {
    let config = with_transport(|transport| transport.write_stall = Duration::from_millis(200));
    let mut scene = receiving(config).await;
    let mut fragments = 1;
    while let Some(frame) = scene.peer.try_receive().await {
        fragments += usize::from(frame.kind & RawFrame::MORE_FRAGMENTS != 0);
    }
    // The window at the start of a connection.
    assert_eq!(fragments, 4);
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn short_fragment_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(first_fragment(1, MIN_FRAGMENT).to_bytes()).await;
    scene.expect_answer().await;
    scene.peer.send(first_fragment(1, MIN_FRAGMENT - 1).to_bytes()).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn too_many_fragmented_bodies_close_connection() {
    let mut scene = Scene::new().await;
    for id in 1..=MAX_BODIES {
        scene.peer.send(first_fragment(id, MIN_FRAGMENT).to_bytes()).await;
    }
    scene.expect_answer().await;
    scene.peer.send(first_fragment(MAX_BODIES + 1, MIN_FRAGMENT).to_bytes()).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn fragment_of_other_type_closes_connection() {
    for kind in [RawFrame::PING, RawFrame::CANCEL, RawFrame::END, RawFrame::SETTINGS, 0, 13] {
        let mut scene = Scene::new().await;
        let fragment = RawFrame::empty(kind | RawFrame::MORE_FRAGMENTS, 1).with_body(vec![0; MIN_FRAGMENT]);
        scene.peer.send(fragment.to_bytes()).await;
        scene.expect_close().await;
    }
}

#[tokio::test]
async fn fragments_that_do_not_arrive_close_connection() {
    let config = with_transport(|transport| transport.frame_time = Duration::from_millis(200));
    let mut scene = Scene::with(config).await;
    scene.peer.send(first_fragment(1, MIN_FRAGMENT).to_bytes()).await;
    // The connection is in use meanwhile; the server may close it between the calls.
    scene.peer.send(echo(2).to_bytes()).await;
    while scene.peer.try_receive().await.is_some() {}
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn cancelled_call_leaves_no_fragments() {
    let mut scene = Scene::new().await;
    for id in 1..=2 * MAX_BODIES {
        scene.peer.send(first_fragment(id, MIN_FRAGMENT).to_bytes()).await;
        scene.peer.send(RawFrame::empty(RawFrame::CANCEL, id).to_bytes()).await;
    }
    // The id is free, and its call has no answer.
    assert_eq!(scene.peer.ask(&call(1, "echo", r#"{"text":"new"}"#)).await.text(), r#""new""#);
    scene.expect_bystander_unaffected().await;
}
