"""Picture coroutine, batcher, model manager, device placement."""
