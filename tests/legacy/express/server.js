// An application as they are written with Express: sessions in Redis, a sign-in, a page that says who you are.
import { RedisStore } from "connect-redis";
import express from "express";
import session from "express-session";
import { createClient } from "redis";

const client = createClient({ url: process.env.REDIS_URL });
await client.connect();

const app = express();
app.use(
  session({
    store: new RedisStore({ client, prefix: process.env.PREFIX || "sess:" }),
    secret: process.env.SECRETS.split("|"),
    name: process.env.COOKIE || "connect.sid",
    resave: false,
    saveUninitialized: false,
    cookie: process.env.MAX_AGE ? { maxAge: Number(process.env.MAX_AGE) } : {},
  }),
);
app.use(express.json());
app.post("/write", (request, response) => {
  Object.assign(request.session, request.body);
  response.json({ id: request.sessionID });
});
app.get("/read", (request, response) => {
  const { cookie, ...data } = request.session;
  response.json(data);
});
const server = app.listen(0, "127.0.0.1", () => console.log(server.address().port));
