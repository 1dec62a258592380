"""Settings from the environment (``CORTEX_...``), checked once when they are read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from cortex_spark import __version__


class Settings(BaseSettings):
    """What an installation sets once; what changes from run to run is an option of the command."""

    model_config = SettingsConfigDict(env_prefix="CORTEX_", extra="ignore", frozen=True)

    #: Who we are for the servers we visit; a contact address belongs into it before the public web is crawled.
    user_agent: str = f"cortex-spark/{__version__}"
    #: Host names (``*.example.org`` for all below) whose addresses may be private: for tests and intranets.
    allow_private_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    #: Where a crawl's files are read from.
    crawl_base_url: str = "https://data.commoncrawl.org/"
    #: Requests to one host at a time, in one task (all URLs of a host are in one task).
    host_connections: int = Field(default=4, ge=1)
    #: Requests at a time in one task.
    connections: int = Field(default=64, ge=1)
    #: Seconds until a connection stands, and for the whole of a download with its redirects.
    connect_timeout: float = Field(default=10.0, gt=0)
    download_timeout: float = Field(default=60.0, gt=0)
    #: Bytes after which a download is broken off.
    max_bytes: int = Field(default=64 << 20, ge=1)
    #: Pixels above which a picture is not decoded; the header tells before anything is.
    max_pixels: int = Field(default=100_000_000, ge=1)
    #: Seconds after which a decoder hangs.
    decode_timeout: float = Field(default=30.0, gt=0)

    @field_validator("allow_private_hosts", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(host.strip().lower() for host in value.split(",") if host.strip())
        return value
