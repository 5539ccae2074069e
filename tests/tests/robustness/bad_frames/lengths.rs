//! Frames at the length limit and above it.

use tests::raw_peer::RawFrame;

use super::scene::{MAX_FRAME, RESOURCE_EXHAUSTED, Scene, call, echo_of, route};

#[tokio::test]
async fn server_accepts_frame_at_limit() {
    let mut scene = Scene::new().await;
    let frame = echo_of(1, MAX_FRAME);
    let answer = scene.peer.ask(&frame).await;
    // The result is the quoted text, without the 9 bytes of `{"text":` and `}`.
    assert_eq!((answer.status().0, answer.payload().len()), (0, frame.payload().len() - 9));
    scene.expect_answer().await;
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn frame_over_limit_fails_only_its_call() {
    let frame = echo_of(1, MAX_FRAME + 1);
    Scene::new().await.expect_error(frame, RESOURCE_EXHAUSTED, &["8388608", "8388609"]).await;
}

#[tokio::test]
async fn header_of_oversized_frame_fails_its_call() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(16 * MAX_FRAME)).await;
    let answer = scene.peer.receive().await;
    assert_eq!(
        (answer.id, answer.status().0),
        (1, RESOURCE_EXHAUSTED),
        "the server rejects the call before its body arrives"
    );
    scene.expect_bystander_unaffected().await;
}

#[tokio::test]
async fn frame_over_16_times_limit_closes_connection() {
    let mut scene = Scene::new().await;
    scene.peer.send(RawFrame::empty(RawFrame::REQUEST, 1).header(16 * MAX_FRAME + 1)).await;
    scene.expect_close().await;
}

#[tokio::test]
async fn result_over_limit_fails_only_its_call() {
    // The frame of a raw result of n bytes has 16 + 2 + n bytes.
    let limit = MAX_FRAME as usize - 18;
    let mut scene = Scene::new().await;
    let bincode = |id, count: usize| call(id, "zeros", "").with_codec(2).with_body(zeros(count - 8));
    let answer = scene.peer.ask(&bincode(1, limit)).await;
    assert_eq!((answer.status().0, answer.payload().len()), (0, limit));
    scene.expect_error(bincode(2, limit + 1), RESOURCE_EXHAUSTED, &["8388608", "8388609"]).await;
}

/// Returns the body of a call of `zeros` in bincode.
fn zeros(count: usize) -> Vec<u8> {
    RawFrame::request(0, &route("zeros"), (count as u64).to_le_bytes()).body
}
