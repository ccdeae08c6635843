import express from "express";

const app = express();
const version = process.env.SOURCE_VERSION ?? "unknown";

app.disable("x-powered-by");
app.use((req, res, next) => {
  console.log(req.method, req.path);
  next();
});
app.get("/", (req, res) => res.type("text").send(`Hello from Node\nversion ${version}\n`));

const server = app.listen(process.env.PORT ?? 8080, () => console.log("listening", server.address().port));
process.on("SIGTERM", () => server.close());
