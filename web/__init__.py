"""The JavaScript side of a bundle: loader, worker, classifier, demo page and TypeScript types."""
