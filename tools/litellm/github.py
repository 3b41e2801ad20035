"""A fake GitHub that answers a device login as the real one does: a code first, then the token."""

from __future__ import annotations

from tools.fake import Fake, JsonHandler

__all__ = ["CODE", "TOKEN", "GitHub"]

CODE, TOKEN = "ABCD-1234", "gho_planted-token-of-a-login"


class GitHub(Fake):
    """`logins` counts the codes that it has given. With `refuse` it answers with an error."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.logins, self.refuse = 0, False
        github = self

        class Handler(JsonHandler):
            def do_POST(self) -> None:  # noqa: N802 - http.server's name
                self.body()
                answer: dict[str, object] = {"access_token": TOKEN, "token_type": "bearer"}
                if self.path.endswith("/code"):
                    github.logins += 1
                    place = "https://github.com/login/device"
                    answer = {"device_code": "d", "user_code": CODE, "verification_uri": place, "interval": 5}
                self.send_json(answer, 503 if github.refuse else 200)

        super().__init__(Handler, address)

    @property
    def variables(self) -> dict[str, str]:
        """What leads LiteLLM's login here."""
        return {
            "GITHUB_COPILOT_DEVICE_CODE_URL": f"{self.url}/login/device/code",
            "GITHUB_COPILOT_ACCESS_TOKEN_URL": f"{self.url}/login/oauth/access_token",
        }
