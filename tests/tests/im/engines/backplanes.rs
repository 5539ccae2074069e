//! Each message queue passes the tests of every engine.

use tests::{
    engines::{nats::NatsServer, rabbitmq::RabbitMqServer},
    im_contract::backplane,
};

#[tokio::test]
async fn nats_message_reaches_all_other_nodes() {
    backplane::message_reaches_all_other_nodes::<NatsServer>().await;
}

#[tokio::test]
async fn nats_messages_of_a_node_arrive_in_order() {
    backplane::messages_of_a_node_arrive_in_order::<NatsServer>().await;
}

#[tokio::test]
async fn nats_message_above_the_limit_is_rejected() {
    backplane::message_above_the_limit_is_rejected::<NatsServer>().await;
}

#[tokio::test]
async fn nats_dropped_wait_loses_no_message() {
    backplane::dropped_wait_loses_no_message::<NatsServer>().await;
}

#[tokio::test]
async fn nats_restarted_engine_reports_a_gap() {
    backplane::restarted_engine_reports_a_gap::<NatsServer>().await;
}

#[tokio::test]
async fn nats_wrong_password_is_not_in_the_error() {
    backplane::wrong_password_is_not_in_the_error::<NatsServer>().await;
}

#[tokio::test]
async fn rabbitmq_message_reaches_all_other_nodes() {
    backplane::message_reaches_all_other_nodes::<RabbitMqServer>().await;
}

#[tokio::test]
async fn rabbitmq_messages_of_a_node_arrive_in_order() {
    backplane::messages_of_a_node_arrive_in_order::<RabbitMqServer>().await;
}

#[tokio::test]
async fn rabbitmq_message_above_the_limit_is_rejected() {
    backplane::message_above_the_limit_is_rejected::<RabbitMqServer>().await;
}

#[tokio::test]
async fn rabbitmq_dropped_wait_loses_no_message() {
    backplane::dropped_wait_loses_no_message::<RabbitMqServer>().await;
}

#[tokio::test]
async fn rabbitmq_restarted_engine_reports_a_gap() {
    backplane::restarted_engine_reports_a_gap::<RabbitMqServer>().await;
}

#[tokio::test]
async fn rabbitmq_wrong_password_is_not_in_the_error() {
    backplane::wrong_password_is_not_in_the_error::<RabbitMqServer>().await;
}
