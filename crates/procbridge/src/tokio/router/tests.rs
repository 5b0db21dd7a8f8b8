use super::*;
use crate::config::server::ServerConfig;
use crate::telemetry::trace_context;

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn parent() -> Option<String> {
    trace_context::current().map(|context| context.parent().to_string())
}

#[::tokio::test]
async fn layer_and_handler_belong_to_the_trace_of_their_call() {
    let blocking = crate::Router::new().method("thread", parent).layer(|call, next| {
        assert_eq!(parent().as_deref(), call.traceparent());
        next.run()
    });
    let router = Router::from(blocking)
        .method("task", || {
            let at_once = parent();
            async move {
                let before = parent();
                ::tokio::task::yield_now().await;
                assert_eq!((&at_once, &before), (&parent(), &parent()));
                before
            }
        })
        .layer(|call: Call, next: Next| async move {
            assert_eq!(parent().as_deref(), call.traceparent());
            let handled = next.run().await;
            assert_eq!(parent().as_deref(), call.traceparent());
            handled
        });
    let admission = Admission::new(ServerConfig::new(), 10, &[]);
    let ask = async |call: crate::Call| {
        let slot = admission.call(&Arc::default(), call.method()).unwrap();
        let mut handler = router.start(call, &admission, slot, Instant::now()).unwrap();
        let handled = (&mut handler).await;
        assert_eq!(parent(), None);
        handler.finish(&admission.config, handled).0.unwrap().bytes()[11..].to_vec()
    };
    for method in ["task", "thread"] {
        let traced = format!(r#"{{"method":"{method}","meta":{{"traceparent":"{PARENT}"}}}}"#);
        let expected = format!(r#"{{"payload":"{PARENT}"}}"#).into_bytes();
        assert_eq!(ask(crate::Call::of(&traced)).await, expected);
        assert_eq!(ask(crate::Call::of(&format!(r#"{{"method":"{method}"}}"#))).await, b"{}");
    }
}
