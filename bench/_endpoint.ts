// An endpoint for bench/hook.py: `_endpoint.ts MS` answers after so many milliseconds; never, if they are negative.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

const wait = Number(process.argv[2]);
const server = createServer((request, response) => {
  request.resume().on("end", () => {
    if (wait === 0) response.writeHead(202).end("{}");
    else if (wait > 0) setTimeout(() => response.writeHead(202).end("{}"), wait);
  });
});
server.listen(0, "127.0.0.1", () => console.log((server.address() as AddressInfo).port));
