"""The inbox's stream: Server-Sent Events from an ASGI process of its own.

One process holds thousands of connections open. What they are sent comes from PostgreSQL alone, asked for many at once;
Redis only says when to look.
"""
