"""The contracts everything else speaks: requests, plans, events, model descriptions, registries and errors."""
