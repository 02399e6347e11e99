"""Text in, RoutingDecision out: the delegator. Knows no adapters and no HTTP."""
