"""What lets people look: logs, metrics, the HTTP endpoint, the status document, Kubernetes Events."""
