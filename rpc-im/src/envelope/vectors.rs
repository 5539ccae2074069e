//! Test vectors: golden frames in both encodings, limits, and invalid frames.

use std::collections::BTreeMap;

use super::*;

/// Returns each client frame with its JSON and its protobuf in hexadecimal digits.
fn client_frames() -> Vec<(ClientFrame, &'static str, &'static str)> {
    let to_user = Send { id: "c-17".into(), to: Some(Recipient::User("bo".into())), body: "hi".into() };
    let to = Recipient::Conversation("g-1".into());
    let to_conversation = Send { id: "c-18".into(), to: Some(to), body: "\"ü\"\n".into() };
    let members = vec!["bo".into(), "cy".into()];
    vec![
        (ClientFrame::Auth(Auth { token: "t.o.k".into() }), r#"{"type":"auth","token":"t.o.k"}"#, "0a070a05742e6f2e6b"),
        (
            ClientFrame::Send(to_user),
            r#"{"type":"send","id":"c-17","to":{"user":"bo"},"body":"hi"}"#,
            "120e0a04632d31371202626f22026869",
        ),
        (
            ClientFrame::Send(to_conversation),
            r#"{"type":"send","id":"c-18","to":{"conversation":"g-1"},"body":"\"ü\"\n"}"#,
            "12120a04632d31381a03672d31220522c3bc220a",
        ),
        (
            ClientFrame::Ack(Ack { message: u64::MAX }),
            r#"{"type":"ack","message":"18446744073709551615"}"#,
            "1a0909ffffffffffffffff",
        ),
        (
            ClientFrame::Sync(Sync { cursors: BTreeMap::from([("a".into(), 41), ("b".into(), 0)]) }),
            r#"{"type":"sync","cursors":{"a":41,"b":0}}"#,
            "220c0a050a016110290a030a0162",
        ),
        (ClientFrame::Ping(Ping {}), r#"{"type":"ping"}"#, "2a00"),
        (ClientFrame::Pong(Pong {}), r#"{"type":"pong"}"#, "3200"),
        (
            ClientFrame::Create(Create { id: "c-19".into(), name: "lunch".into(), members }),
            r#"{"type":"create","id":"c-19","name":"lunch","members":["bo","cy"]}"#,
            "3a150a04632d313912056c756e63681a02626f1a026379",
        ),
    ]
}

/// Returns each server frame with its JSON and its protobuf in hexadecimal digits.
fn server_frames() -> Vec<(ServerFrame, &'static str, &'static str)> {
    let conversation = "ann:bo".to_owned();
    vec![
        (
            ServerFrame::AuthOk(AuthOk { user: "ann".into(), session: 1 << 63, node: "n1".into() }),
            r#"{"type":"auth_ok","user":"ann","session":"9223372036854775808","node":"n1"}"#,
            "0a120a03616e6e1100000000000000801a026e31",
        ),
        (
            ServerFrame::SendAck(SendAck {
                id: "c-17".into(),
                message: 7,
                conversation: conversation.clone(),
                seq: 42,
            }),
            r#"{"type":"send_ack","id":"c-17","message":"7","conversation":"ann:bo","seq":42}"#,
            "12190a04632d31371107000000000000001a06616e6e3a626f202a",
        ),
        (
            ServerFrame::Push(Push {
                message: 7,
                from: "ann".into(),
                conversation: conversation.clone(),
                seq: 42,
                body: "hi".into(),
            }),
            r#"{"type":"push","message":"7","from":"ann","conversation":"ann:bo","seq":42,"body":"hi"}"#,
            "1a1c0907000000000000001203616e6e1a06616e6e3a626f202a2a026869",
        ),
        (
            ServerFrame::Kick(Kick { reason: "replaced".into() }),
            r#"{"type":"kick","reason":"replaced"}"#,
            "220a0a087265706c61636564",
        ),
        (
            ServerFrame::Reconnect(Reconnect { nodes: vec!["ws://h:1/ws".into()], within_ms: 300 }),
            r#"{"type":"reconnect","nodes":["ws://h:1/ws"],"within_ms":300}"#,
            "2a100a0b77733a2f2f683a312f777310ac02",
        ),
        (
            ServerFrame::Lagging(Lagging { conversation: conversation.clone(), seq: 42 }),
            r#"{"type":"lagging","conversation":"ann:bo","seq":42}"#,
            "320a0a06616e6e3a626f102a",
        ),
        (
            ServerFrame::error(Some("c-17".into()), code::TOO_MANY, "slower"),
            r#"{"type":"error","id":"c-17","code":"too_many","message":"slower"}"#,
            "3a180a04632d31371208746f6f5f6d616e791a06736c6f776572",
        ),
        (
            ServerFrame::error(None, code::UNAUTHENTICATED, "no"),
            r#"{"type":"error","code":"unauthenticated","message":"no"}"#,
            "3a15120f756e61757468656e746963617465641a026e6f",
        ),
        (ServerFrame::Ping(Ping {}), r#"{"type":"ping"}"#, "4200"),
        (ServerFrame::Pong(Pong {}), r#"{"type":"pong"}"#, "4a00"),
        (
            ServerFrame::Conversation(Conversation {
                id: None,
                conversation,
                name: String::new(),
                members: vec!["ann".into(), "bo".into()],
                seq: 42,
            }),
            r#"{"type":"conversation","conversation":"ann:bo","name":"","members":["ann","bo"],"seq":42}"#,
            "52131206616e6e3a626f2203616e6e2202626f282a",
        ),
        (
            ServerFrame::Presence(Presence { user: "bo".into(), online: true }),
            r#"{"type":"presence","user":"bo","online":true}"#,
            "5a060a02626f1001",
        ),
    ]
}

#[test]
fn client_frames_match_golden_bytes() {
    for (frame, json, protobuf) in client_frames() {
        assert_eq!(frame.to_json(), json);
        assert_eq!(hex(&frame.to_protobuf()), protobuf, "{json}");
        assert_eq!(ClientFrame::from_json(json).unwrap(), frame);
        assert_eq!(ClientFrame::from_protobuf(&frame.to_protobuf()).unwrap(), frame);
    }
}

#[test]
fn server_frames_match_golden_bytes() {
    for (frame, json, protobuf) in server_frames() {
        assert_eq!(frame.to_json(), json);
        assert_eq!(hex(&frame.to_protobuf()), protobuf, "{json}");
        assert_eq!(ServerFrame::from_json(json).unwrap(), frame);
        assert_eq!(ServerFrame::from_protobuf(&frame.to_protobuf()).unwrap(), frame);
    }
}

#[test]
fn decoder_rejects_every_truncation() {
    for (frame, json, _) in client_frames() {
        for end in (0..json.len()).filter(|end| json.is_char_boundary(*end)) {
            assert!(ClientFrame::from_json(&json[..end]).is_err(), "{json} to {end}");
        }
        let bytes = frame.to_protobuf();
        for end in 0..bytes.len() {
            assert!(ClientFrame::from_protobuf(&bytes[..end]).is_err(), "{json} to {end}");
        }
    }
}

#[test]
fn decoder_ignores_unknown_fields() {
    let frame = ClientFrame::from_json(r#"{"type":"ping","at":17}"#).unwrap();
    assert_eq!(frame, ClientFrame::Ping(Ping {}));
    // Field 1000 (a varint), then field 5.
    let frame = ClientFrame::from_protobuf(&[0xc0, 0x3e, 0x01, 0x2a, 0x00]).unwrap();
    assert_eq!(frame, ClientFrame::Ping(Ping {}));
    assert!(matches!(ClientFrame::from_protobuf(&[0xc0, 0x3e, 0x01]), Err(FrameError::Unknown)));
}

#[test]
fn decoder_accepts_limits_and_rejects_one_above() {
    let send = |id: &str, user: &str| {
        let send = Send { id: id.into(), to: Some(Recipient::User(user.into())), body: String::new() };
        ClientFrame::from_json(&ClientFrame::Send(send).to_json())
    };
    let longest = "n".repeat(MAX_NAME);
    let longer = "n".repeat(MAX_NAME + 1);
    assert!(send(&longest, &longest).is_ok());
    assert_eq!(send(&longer, "bo").unwrap_err().to_string(), "id is 129 bytes, limit is 128");
    assert_eq!(send("1", &longer).unwrap_err().to_string(), "to.user is 129 bytes, limit is 128");
    assert_eq!(send("", "bo").unwrap_err().to_string(), "id is missing");
    assert_eq!(send("1", "b\no").unwrap_err().to_string(), "to.user contains control characters");

    let sync = |count: usize| {
        let cursors = (0..count).map(|number| (number.to_string(), 1)).collect();
        ClientFrame::from_protobuf(&ClientFrame::Sync(Sync { cursors }).to_protobuf())
    };
    assert!(sync(MAX_CURSORS).is_ok());
    assert_eq!(sync(MAX_CURSORS + 1).unwrap_err().to_string(), "cursors has 1025 entries, limit is 1024");

    let create = |count: usize| {
        let create = Create { id: "1".into(), name: String::new(), members: vec!["bo".into(); count] };
        ClientFrame::from_protobuf(&ClientFrame::Create(create).to_protobuf())
    };
    assert!(create(MAX_MEMBERS).is_ok());
    assert_eq!(create(MAX_MEMBERS + 1).unwrap_err().to_string(), "members has 1001 entries, limit is 1000");
}

#[test]
fn decoder_rejects_invalid_frames_with_a_reason() {
    for text in ["", "7", "[]", "{}", r#"{"type":"shout"}"#, r#"{"type":"send","id":"1"}"#, &"[".repeat(100_000)] {
        assert!(matches!(ClientFrame::from_json(text), Err(FrameError::Json(_))), "{text:.20}");
    }
    for id in ["7", "\"\"", "\"-1\"", "\"18446744073709551616\""] {
        assert!(ClientFrame::from_json(&format!(r#"{{"type":"ack","message":{id}}}"#)).is_err(), "{id}");
    }
    let no_recipient = ClientFrame::Send(Send { id: "1".into(), to: None, body: String::new() });
    assert_eq!(ClientFrame::from_protobuf(&no_recipient.to_protobuf()).unwrap_err().to_string(), "to is missing");
}

#[test]
fn debug_omits_tokens_and_bodies() {
    let auth = ClientFrame::Auth(Auth { token: "secret".into() });
    let send = ClientFrame::Send(Send { id: "1".into(), to: None, body: "secret".into() });
    let push = Push { message: 1, from: "ann".into(), conversation: "c".into(), seq: 1, body: "secret".into() };
    for text in [format!("{auth:?}"), format!("{send:?}"), format!("{:?}", ServerFrame::Push(push))] {
        assert!(!text.contains("secret"), "{text}");
    }
}

/// `proto/im.proto` must declare as many frames as this module.
///
/// Other languages generate their code from it.
#[test]
fn proto_file_declares_every_frame() {
    let proto = include_str!("../../proto/im.proto");
    let frames = [("ClientFrame", client_frames().len() - 1), ("ServerFrame", server_frames().len() - 1)];
    for (message, count) in frames {
        let (_, body) = proto.split_once(&format!("message {message} {{")).unwrap();
        let body = body.split_once("\n}\n").unwrap().0;
        assert_eq!(body.matches(" = ").count(), count, "{message}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
